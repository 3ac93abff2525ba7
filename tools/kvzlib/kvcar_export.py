"""KV-CAR's artefact: a safetensors file that `kvz profile import` makes a profile of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .kvcar_cache import Compressor
from .kvcar_net import KINDS
from .safefile import write_tensors


def write_artefact(
    path: Path,
    compressor: Compressor,
    dims: dict[str, int],
    model: dict[str, Any],
    windows: np.ndarray,
    seed: int,
    slope: float,
) -> None:
    """
    Writes the reuse map and the autoencoders in use, normalization folded in, float32.

    `model`: `id`, `architecture`, `rope`; `windows`: token ids of the training sequences, whose hashes keep held-out texts
    apart from them.
    """
    tensors: dict[str, tuple[str, np.ndarray]] = {"input_ids": ("I32", windows.astype(np.int32))}
    for kind in KINDS:
        tensors[f"{kind}.sources"] = ("I32", compressor.sources[kind].astype(np.int32))
        for layer in compressor.layers():
            for name, x in compressor.of(kind, layer).folded().items():
                tensors[f"layers.{layer}.{kind}.{name}"] = ("F32", x.astype(np.float32))
    layers, heads = compressor.sources["key"].shape
    write_tensors(path, tensors, {
        "method": "kvcar",
        "model": model["id"],
        "architecture": model["architecture"],
        "rope": json.dumps(model["rope"]),
        "layers": str(layers),
        "kv_heads": str(heads),
        "key_dim": str(dims["key"]),
        "value_dim": str(dims["value"]),
        "pre_rope": "true" if compressor.pre_rope else "false",
        "slope": np.format_float_positional(slope, trim="0"),
        "tokens": str(windows.size),
        "sequences": str(len(windows)),
        "seed": str(seed),
    })


def write_weights(path: Path, model: Any) -> int:
    """
    Writes the model's weights under Hugging Face names, float32, for `tools/export_model.py --weights`; a tied output
    matrix only once. Returns how many.
    """
    tensors = {
        name: ("F32", parameter.detach().to(torch.float32).numpy()) for name, parameter in model.named_parameters()
    }
    write_tensors(path, tensors, {"format": "pt"})
    return len(tensors)
