"""
Fisher information of a causal language model's KV cache: how much an error in it costs.

For every layer l and KV head h, F[l, h] = E[g gᵀ] with g = ∂loss/∂x, x the key before RoPE or the value of one token
[dim], and loss the cross-entropy summed over a sequence, in nats, with labels sampled from the model itself (so that F
is the Fisher information, not the scatter of the training gradient). To second order an error e of that vector raises
the KL of the model's predictions over the sequence by ½ eᵀ F e.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from .model import cache_argument


class FisherBlocks:
    """Sums of g gᵀ for keys before RoPE and values, float64 [layers, kv_heads, dim, dim]."""

    def __init__(self, sinks: int = 4) -> None:
        """`sinks`: leading tokens of each sequence left out of the mean."""
        self.sinks = sinks
        self.tokens = 0
        self.sequences = 0
        self._sums: dict[tuple[str, int], np.ndarray] = {}

    def add(self, model: Any, ids: np.ndarray, generator: torch.Generator) -> float:
        """Adds a sequence, int [tokens]; returns its loss in nats per token."""
        tokens = len(ids)
        if tokens <= self.sinks:
            raise ValueError(f"Cannot take a sequence of {tokens} tokens: the first {self.sinks} are left out")
        seen: set[tuple[str, int]] = set()

        def watch(kind: str, layer: int, x: torch.Tensor) -> None:
            if (kind, layer) in seen:
                raise ValueError(f"Cannot watch the {kind}s of layer {layer}: they pass twice in one forward pass")
            seen.add((kind, layer))
            x.register_hook(lambda gradient: self._accumulate(kind, layer, gradient))

        for parameter in model.parameters():
            parameter.requires_grad_(False)
        with _watched(model, watch) as cache, torch.enable_grad():
            # Gradients begin at the embeddings: those of the weights are not wanted.
            embedded = model.get_input_embeddings()(torch.from_numpy(ids.astype(np.int64))[None])
            inputs = {"inputs_embeds": embedded.detach().requires_grad_(True)}
            logits = model(**inputs, **cache_argument(model, cache)).logits[0]
            with torch.no_grad():
                labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            loss.backward()
        self.tokens += tokens - self.sinks
        self.sequences += 1
        return loss.item() / tokens

    def mean(self, kind: str) -> list[np.ndarray]:
        """F of every layer, float64 [kv_heads, dim, dim] each; `kind` is "key" or "value"."""
        layers = sorted(layer for k, layer in self._sums if k == kind)
        if not layers or layers != list(range(len(layers))):
            raise ValueError(f"Cannot take the mean: {kind}s were seen in layers {layers}, expected all from 0 on")
        return [self._sums[kind, layer] / self.tokens for layer in layers]

    def _accumulate(self, kind: str, layer: int, gradient: torch.Tensor) -> None:
        g = gradient[0, :, self.sinks :].double()
        product = torch.einsum("hti,htj->hij", g, g).numpy()
        self._sums[kind, layer] = self._sums.get((kind, layer), 0.0) + product


class _WatchingCache(DynamicCache):
    """A cache that shows the values that enter it, and names the layer that the last rotated keys belong to."""

    def __init__(self, watch: Any, pending: list[torch.Tensor]) -> None:
        super().__init__()
        self._watch = watch
        self._pending = pending

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        if len(self._pending) != 1:
            raise ValueError(f"Cannot find the keys before RoPE of layer {layer_idx}: rotated {len(self._pending)} times")
        unrotated = self._pending.pop()
        if unrotated.shape != key_states.shape:
            raise ValueError(
                f"Cannot find the keys before RoPE of layer {layer_idx}: they have the shape {list(unrotated.shape)}, "
                f"expected {list(key_states.shape)}"
            )
        self._watch("key", layer_idx, unrotated)
        self._watch("value", layer_idx, value_states)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@contextmanager
def _watched(model: Any, watch: Any) -> Iterator[DynamicCache]:
    """Puts a witness in the place of the model's `apply_rotary_pos_emb`, which takes q and k before RoPE."""
    module = sys.modules[type(model).__module__]
    rotate = getattr(module, "apply_rotary_pos_emb", None)
    if rotate is None:
        raise ValueError(f"Cannot find the keys before RoPE: {module.__name__} has no apply_rotary_pos_emb")
    pending: list[torch.Tensor] = []

    def witness(q: torch.Tensor, k: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        pending.append(k)
        return rotate(q, k, *args, **kwargs)

    module.apply_rotary_pos_emb = witness
    try:
        yield _WatchingCache(watch, pending)
    finally:
        module.apply_rotary_pos_emb = rotate
