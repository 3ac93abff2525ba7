#!/usr/bin/env python3
"""
Times the peers of kvz: the same KVTC transform in NumPy and PyTorch, and the prefill it competes with. One JSON object.

    python tools/bench_peer.py codec CACHE --profile P.safetensors --ratio 16
    python tools/bench_peer.py prefill (--gguf M.gguf | --model FOLDER) [--onnx model.onnx] [--tokens 1024]

codec: tokens/s = all tokens of the cache ÷ the best of N runs, in memory, DEFLATE included; one and two threads, each
in a process of its own. prefill: two threads, logits of the last token only, the cache kept.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    codec = commands.add_parser("codec")
    codec.add_argument("cache")
    codec.add_argument("--profile", required=True, help=".safetensors or .npz")
    codec.add_argument("--ratio", type=float, default=16)
    codec.add_argument("--runs", type=int, default=5)
    codec.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    codec.add_argument("--peer", choices=["numpy", "torch"], help="only this one")
    codec.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    prefill = commands.add_parser("prefill")
    prefill.add_argument("--gguf")
    prefill.add_argument("--model")
    prefill.add_argument("--onnx", help="a Transformers.js export of the same model")
    prefill.add_argument("--tokens", type=int, default=1024)
    prefill.add_argument("--threads", type=int, default=2)
    prefill.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def versions(*names: str) -> dict[str, str]:
    return {"python": sys.version.split()[0]} | {n: importlib.metadata.version(n) for n in names}


def best(runs: int, work: Callable[[], Any]) -> list[float]:
    """Seconds of each run, after one to warm up."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def rate(tokens: int, seconds: list[float]) -> dict[str, float]:
    return {
        "tokensPerSecond": round(tokens / min(seconds), 1),
        "seconds": round(min(seconds), 4),
        "secondsMedian": round(sorted(seconds)[len(seconds) // 2], 4),
    }


def codec_worker(args: argparse.Namespace) -> dict[str, Any]:
    """One peer at one thread count; the environment already limits the BLAS."""
    import numpy as np
    from kvzlib.caches import read_cache
    from kvzlib.peer import NumpyPeer, torch_peer
    from kvzlib.profile import load_profile

    cache, profile, threads = read_cache(args.cache), load_profile(args.profile), args.threads[0]
    if args.peer == "torch":
        peer = torch_peer(cache, profile, args.ratio, threads=threads)
    else:
        peer = NumpyPeer(cache, profile, args.ratio, threads)
    original = {"key": cache.keys.astype(np.float16), "value": cache.values.astype(np.float16)}
    tensors = {kind: peer.source(x) for kind, x in original.items()}
    report: dict[str, Any] = {"peer": args.peer, "threads": threads}
    coded = peer.compress(tensors)
    for name, work in (("compress", lambda: peer.compress(tensors)), ("decompress", lambda: peer.decompress(coded))):
        peer.seconds.clear()
        report[name] = rate(cache.tokens, best(args.runs, work))
        report[name]["stages"] = {k: round(s / (args.runs + 1), 4) for k, s in peer.seconds.items()}
    for kind, x in peer.decompress(coded).items():
        error = np.linalg.norm(x.astype(np.float64) - original[kind]) / np.linalg.norm(
            original[kind].astype(np.float64)
        )
        report[f"{kind}RelativeErrorWholeCache"] = float(error)
    report["bytes"] = sum(len(s) for kind in coded.values() for s in kind["streams"])
    return report


def codec(args: argparse.Namespace) -> dict[str, Any]:
    if args.worker:
        return codec_worker(args)
    rows = []
    for name in [args.peer] if args.peer else ["numpy", "torch"]:
        for threads in args.threads:
            limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "OPENBLAS", "MKL")}
            command = [sys.executable, __file__, "codec", args.cache, "--profile", args.profile, "--worker"]
            command += ["--ratio", str(args.ratio), "--runs", str(args.runs), "--peer", name, "--threads", str(threads)]
            done = subprocess.run(command, env=os.environ | limits, check=True, stdout=subprocess.PIPE)
            rows.append(json.loads(done.stdout))
    return {
        "cache": os.path.basename(args.cache),
        "targetRatio": args.ratio,
        "versions": versions("numpy", "torch"),
        "rows": rows,
    }


def prefill(args: argparse.Namespace) -> dict[str, Any]:
    from kvzlib.model import load_model  # first: it quiets the GGUF loader's progress bar

    import numpy as np
    import torch

    torch.set_num_threads(args.threads)
    loaded = load_model(args.gguf, args.model, None)
    # Any ids will do: the work does not depend on them.
    ids = np.random.default_rng(0).integers(100, loaded.model.config.vocab_size, (1, args.tokens))
    tensor = torch.from_numpy(ids)

    def run_torch() -> None:
        with torch.inference_mode():
            loaded.model(tensor, use_cache=True, logits_to_keep=1)

    rows = [{"peer": "torch", "threads": args.threads, **rate(args.tokens, best(args.runs, run_torch))}]
    used = versions("torch", "transformers")
    if args.onnx:
        rows.append(onnx_prefill(args, ids))
        used |= versions("onnxruntime")
    return {"model": loaded.id, "tokens": args.tokens, "versions": used, "rows": rows}


def onnx_prefill(args: argparse.Namespace, ids: Any) -> dict[str, Any]:
    """Prefill by onnxruntime; says whether the graph computes the last token's logits only."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {}
    for x in session.get_inputs():
        if x.name.startswith("past_key_values."):
            feeds[x.name] = np.zeros((1, x.shape[1], 0, x.shape[3]), np.float32)
        elif x.name == "input_ids":
            feeds[x.name] = ids
        elif x.name == "attention_mask":
            feeds[x.name] = np.ones_like(ids)
        elif x.name == "position_ids":
            feeds[x.name] = np.arange(args.tokens)[None]
        elif x.name == "num_logits_to_keep":
            feeds[x.name] = np.array(1)
        else:
            raise ValueError(f"Cannot run {args.onnx}: unknown input {x.name}")
    shape = session.run(["logits"], feeds)[0].shape
    seconds = best(args.runs, lambda: session.run(None, feeds))
    return {
        "peer": "onnxruntime",
        "threads": args.threads,
        "lastLogitsOnly": shape[1] == 1,
        **rate(args.tokens, seconds),
    }


def main() -> None:
    args = parse_arguments()
    print(json.dumps(codec(args) if args.command == "codec" else prefill(args)))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
