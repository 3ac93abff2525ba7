"""
Fisher information of a causal language model's KV cache: how much an error in it costs.

For every layer l and KV head h, F[l, h] = E[g gᵀ] with g = ∂loss/∂x, x the key before RoPE or the value of one token
[dim] in the cache of a context, and loss the cross-entropy summed over the continuation, in nats, with labels sampled
from the model itself (so that F is the Fisher information, not the scatter of the training gradient). To second order
an error e of that vector raises the KL of the model's predictions over the continuation by ½ eᵀ F e.

The cache is taken as given: an error in a token does not reach the caches of later tokens of the context, as it does not
when a stored cache is restored. Gradients of the loss over a whole sequence would count that as well, and weigh layers
and kinds quite otherwise.
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

    def add(self, model: Any, ids: np.ndarray, generator: torch.Generator, context: int | None = None) -> float:
        """
        Adds a sequence, int [tokens]: the cache of its first `context` tokens (default: three quarters), the loss over
        the others. Returns the loss in nats per token of the continuation.
        """
        tokens = len(ids)
        context = tokens * 3 // 4 if context is None else context
        if not self.sinks < context < tokens:
            raise ValueError(
                f"Cannot take a sequence of {tokens} tokens, {context} of them context: the first {self.sinks} are left "
                "out, and one is predicted at least"
            )
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        x = torch.from_numpy(ids.astype(np.int64))[None]
        with _leaves(model) as cache, torch.no_grad():
            model(x[:, :context], **cache_argument(model, cache))
        with torch.enable_grad():
            logits = model(x[:, context:], **cache_argument(model, cache.restored)).logits[0]
            with torch.no_grad():
                labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            loss.backward()
        for (kind, layer), leaf in cache.leaves.items():
            self._accumulate(kind, layer, leaf.grad)
        self.tokens += context - self.sinks
        self.sequences += 1
        return loss.item() / (tokens - context)

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


class _LeafCache(DynamicCache):
    """
    The cache of a context that is being read. Beside it, `restored` is the same cache made anew of `leaves`, which are
    cut from how they came about: keys before RoPE, and values.
    """

    def __init__(self, pending: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.leaves: dict[tuple[str, int], torch.Tensor] = {}
        self.restored = DynamicCache()
        self._pending = pending

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        if len(self._pending) != 1:
            raise ValueError(f"Cannot find the keys before RoPE of layer {layer_idx}: rotated {len(self._pending)} times")
        key, rotated = self._pending.pop()
        if key.shape != key_states.shape:
            raise ValueError(
                f"Cannot find the keys before RoPE of layer {layer_idx}: they have the shape {list(key.shape)}, "
                f"expected {list(key_states.shape)}"
            )
        if ("key", layer_idx) in self.leaves:
            raise ValueError(f"Cannot watch the keys of layer {layer_idx}: they pass twice in one forward pass")
        value = value_states.detach().clone().requires_grad_(True)
        self.leaves["key", layer_idx] = key
        self.leaves["value", layer_idx] = value
        with torch.enable_grad():
            self.restored.update(rotated, value, layer_idx)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@contextmanager
def _leaves(model: Any) -> Iterator[_LeafCache]:
    """Puts a witness in the place of the model's `apply_rotary_pos_emb`, which takes q and k before RoPE."""
    module = sys.modules[type(model).__module__]
    rotate = getattr(module, "apply_rotary_pos_emb", None)
    if rotate is None:
        raise ValueError(f"Cannot find the keys before RoPE: {module.__name__} has no apply_rotary_pos_emb")
    pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def witness(q: torch.Tensor, k: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        leaf = k.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            pending.append((leaf, rotate(q.detach(), leaf, *args, **kwargs)[1]))
        return rotate(q, k, *args, **kwargs)

    module.apply_rotary_pos_emb = witness
    try:
        yield _LeafCache(pending)
    finally:
        module.apply_rotary_pos_emb = rotate
