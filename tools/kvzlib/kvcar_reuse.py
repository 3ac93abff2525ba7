"""Head reuse of KV-CAR (arXiv 2512.06727, Algorithm 2): which heads take those of the layer before."""

from __future__ import annotations

import numpy as np


def resolve(chosen: np.ndarray, chains: bool = True) -> np.ndarray:
    """
    The source of every slot, int32 [layers, heads] of slot numbers (layer · heads + head), from the slots chosen to reuse
    the same head one layer before, bool [layers, heads].

    A slot whose source is reused itself takes the source's source, up to the one that is stored. With `chains` false such
    a slot is stored instead, so that every reuse is of the layer before.
    """
    layers, heads = chosen.shape
    if chosen[0].any():
        raise ValueError("Cannot reuse heads: layer 0 has no layer before it")
    sources = np.arange(layers * heads, dtype=np.int32).reshape(layers, heads)
    for layer in range(1, layers):
        for head in np.flatnonzero(chosen[layer]):
            before = sources[layer - 1, head]
            own = (layer - 1) * heads + head
            if chains or before == own:
                sources[layer, head] = before
    return sources


def choose_slots(distances: np.ndarray, threshold: float | None = None, count: int | None = None) -> np.ndarray:
    """
    Slots to be reused, bool [layers, heads], by their distance [layers − 1, heads] to the same head one layer before:
    those below a threshold, or the `count` nearest.
    """
    if (threshold is None) == (count is None):
        raise ValueError("Cannot choose heads: give either a threshold or a count")
    if count is not None and not 0 <= count <= distances.size:
        raise ValueError(f"Cannot choose {count} heads: there are {distances.size} with a layer before them")
    if threshold is None:
        near = np.zeros(distances.size, bool)
        near[np.argsort(distances, axis=None, kind="stable")[:count]] = True
        near = near.reshape(distances.shape)
    else:
        near = distances < threshold
    return np.concatenate([np.zeros((1, distances.shape[1]), bool), near])


def stored_heads(sources: np.ndarray, layer: int) -> list[int]:
    """Heads that a layer stores itself."""
    heads = sources.shape[1]
    return [h for h in range(heads) if sources[layer, h] == layer * heads + h]


class HeadDistances:
    """Mean L1 norm, by element, between each head and the same head one layer before: Algorithm 2, lines 1 to 8."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], np.ndarray] = {}
        self._batches: dict[tuple[str, int], int] = {}

    def add(self, kind: str, layer: int, x: np.ndarray, before: np.ndarray) -> None:
        """Adds a mini-batch: [batch, heads, tokens, dim] of a layer from 1 on and of the layer before."""
        key = kind, layer
        self._sums[key] = self._sums.get(key, 0.0) + np.abs(x.astype(np.float64) - before).mean(axis=(0, 2, 3))
        self._batches[key] = self._batches.get(key, 0) + 1

    def mean(self, kind: str) -> np.ndarray:
        """[layers − 1, heads], averaged over mini-batches."""
        layers = sorted(layer for k, layer in self._sums if k == kind)
        if layers != list(range(1, len(layers) + 1)) or not layers:
            raise ValueError(f"Cannot compare heads: {kind}s were seen in layers {layers}, expected all from 1 on")
        return np.stack([self._sums[kind, n] / self._batches[kind, n] for n in layers])
