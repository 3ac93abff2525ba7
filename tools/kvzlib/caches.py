"""Cache files: .safetensors with `past_key_values.N.key|value` [1, heads, tokens, dim] and `input_ids` [1, tokens]."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .rope import rotation
from .safefile import read_header, read_tensors, write_tensors


@dataclass(frozen=True)
class Cache:
    """
    One sequence's cache in float32: [layers][kv_heads][tokens][dim] each, keys after RoPE, half-split; before it, or of
    a model without, where `rope` is None.
    """

    keys: np.ndarray
    values: np.ndarray
    input_ids: np.ndarray | None
    positions: np.ndarray
    metadata: dict[str, str]
    rope: dict[str, Any] | None
    dtype: str

    @property
    def tokens(self) -> int:
        return self.keys.shape[2]

    def features(self, kind: str, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [tokens][layers · heads · dim], keys with RoPE undone, float32."""
        x = (self.keys if kind == "key" else self.values)[:, :, begin:end]
        if kind == "key" and self.rope is not None:
            x = rotation(self.rope, self.positions[begin:end]).undo(x)
        return np.ascontiguousarray(x.transpose(2, 0, 1, 3)).reshape(x.shape[2], -1)

    def unfeatures(self, kind: str, rows: np.ndarray, begin: int = 0) -> np.ndarray:
        """The inverse of `features`: [layers][heads][tokens][dim], RoPE applied to keys."""
        shape = (self.keys if kind == "key" else self.values).shape
        x = rows.reshape(len(rows), shape[0], shape[1], shape[3]).transpose(1, 2, 0, 3)
        if kind == "key" and self.rope is not None:
            x = rotation(self.rope, self.positions[begin : begin + len(rows)]).apply(x)
        return np.ascontiguousarray(x)


def read_cache(path: Path | str) -> Cache:
    """Reads a cache file whole."""
    tensors, metadata = read_tensors(Path(path))
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("past_key_values."))
    stacks = {
        kind: np.concatenate([tensors[f"past_key_values.{n}.{kind}"] for n in range(layers)]).astype(np.float32)
        for kind in ("key", "value")
    }
    rope = json.loads(metadata["rope"])
    if rope is not None and rope["pairing"] != "half-split":
        raise ValueError(f"Cannot read {path}: RoPE pairing is {rope['pairing']}, expected half-split")
    tokens = stacks["key"].shape[2]
    positions = np.arange(tokens) + int((rope or {}).get("first_position", 0))
    dtype = read_header(Path(path))[0]["past_key_values.0.key"]["dtype"].lower()
    ids = tensors.get("input_ids")
    return Cache(stacks["key"], stacks["value"], None if ids is None else ids[0], positions, metadata, rope, dtype)


def write_cache(
    path: Path,
    layers: list[tuple[np.ndarray, np.ndarray]],
    ids: np.ndarray,
    metadata: dict[str, str],
    dtype: str,
) -> None:
    """
    Writes keys and values [1, kv_heads, tokens, dim] per layer in `dtype` (f16, bf16, f32). Values that the type cannot
    hold are refused: an infinity in a cache is a fault of the dump, not of the model.
    """
    tensors: dict[str, tuple[str, np.ndarray]] = {"input_ids": ("I32", ids.astype(np.int32)[None])}
    for n, pair in enumerate(layers):
        for kind, x in zip(("key", "value"), pair):
            if not np.isfinite(x).all():
                raise ValueError(f"Cannot write cache: {kind} of layer {n} holds NaN or infinity")
            if dtype == "f16" and np.abs(x).max() > 65504:
                raise ValueError(f"Cannot write cache: {kind} of layer {n} exceeds the range of f16, use --dtype bf16")
            tensors[f"past_key_values.{n}.{kind}"] = (dtype.upper(), np.asarray(x, np.float32))
    write_tensors(path, tensors, metadata)
