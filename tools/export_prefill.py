"""Exports the prefill of a model to ONNX, for `bench_peer.py prefill --onnx`: token ids → last-token logits and cache.

    python tools/export_prefill.py (--gguf M.gguf | --model FOLDER) -o prefill.onnx [--tokens 1024]

Weights in float32, eager attention, an empty past, the given number of tokens. A yardstick for timing, not a model to
continue from.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch

from kvzlib.model import load_model


class Prefill(torch.nn.Module):
    """The model as one function of token ids."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.model(input_ids=input_ids, use_cache=True, logits_to_keep=1)
        return (out.logits, *(tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf")
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    model = load_model(args.gguf, args.model, None).model
    # The tracer cannot follow the fused attention of torch.
    model.set_attn_implementation("eager")
    layers = model.config.num_hidden_layers
    names = ["logits"] + [f"present.{n}.{kind}" for n in range(layers) for kind in ("key", "value")]
    ids = torch.zeros((1, args.tokens), dtype=torch.int64)
    warnings.filterwarnings("ignore")
    with torch.inference_mode():
        torch.onnx.export(
            Prefill(model),
            (ids,),
            args.output,
            input_names=["input_ids"],
            output_names=names,
            dynamo=False,
            opset_version=17,
        )


if __name__ == "__main__":
    main()
