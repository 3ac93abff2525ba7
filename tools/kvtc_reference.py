#!/usr/bin/env python3
"""
KVTC (arXiv:2511.01815) in plain NumPy: the accuracy reference of the TypeScript codec.

    python tools/kvtc_reference.py fit CACHE... -o P.safetensors [--rank R]
    python tools/kvtc_reference.py run CACHE --profile P.safetensors --ratio 8 16 32

`run` prints a JSON line a ratio: target and paper ratio, relative errors of K and V, bytes by stream.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kvzlib.caches import read_cache
from kvzlib.codec import evaluate
from kvzlib.profile import fit, load_profile, save_profile


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit a profile on calibration caches")
    fitting.add_argument("caches", nargs="+", type=Path)
    fitting.add_argument("-o", "--output", type=Path, required=True, help=".safetensors")
    fitting.add_argument("--rank", type=int, default=2048)
    fitting.add_argument("--sinks", type=int, default=4, help="leading tokens of each sequence left out")
    fitting.add_argument("--dp-rows", type=int, default=4096, help="sampled tokens behind the bit allocation")
    fitting.add_argument("--seed", type=int, default=0)
    running = commands.add_parser("run", help="compress and restore a cache, report errors and bytes")
    running.add_argument("cache", type=Path)
    running.add_argument("--profile", type=Path, required=True, help=".safetensors or .npz")
    running.add_argument("--ratio", nargs="+", type=float, default=[8.0, 16.0, 32.0])
    running.add_argument("--value-ratio", type=float, help="another ratio for values")
    running.add_argument("--sinks", type=int, default=4)
    running.add_argument("--window", type=int, default=128)
    running.add_argument("--chunk", type=int, default=256, help="tokens a DEFLATE chunk, 0 for one chunk")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.command == "fit":
        profile = fit(args.caches, args.rank, args.sinks, args.dp_rows, args.seed)
        metadata = {"sinks": str(args.sinks), "seed": str(args.seed), "sequences": str(len(args.caches))}
        save_profile(args.output, profile, metadata)
        return
    cache = read_cache(args.cache)
    profile = load_profile(args.profile)
    for ratio in args.ratio:
        ratios = {"key": ratio, "value": args.value_ratio or ratio}
        print(json.dumps(evaluate(cache, profile, ratios, args.sinks, args.window, args.chunk)))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
