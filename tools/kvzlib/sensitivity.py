"""
Fisher information of a causal language model's KV cache: how much an error in it costs.

For every layer l and KV head h, F[l, h] = E[g gᵀ] with g = ∂loss/∂x, x the key before RoPE or the value of one token
[dim] in the cache of a context, and loss the cross-entropy summed over the continuation, in nats, with labels drawn from
the model itself (so that F is the Fisher information, not the scatter of the training gradient). To second order an
error e of that vector raises the KL of the model's predictions over the continuation by ½ eᵀ F e.

The expectation over labels is taken by random vectors z in the place of labels' gradients p − onehot: any with
E[z zᵀ] = diag(p) − p pᵀ at each position, independent of each other, have the same F. Signs s, ±1 at random, give
z = √p ∘ s − p (√p · s), which has no rare label's outliers, and several a sequence cost one forward pass. It takes
several: what reads on looks back at few tokens, which make up half of F and more, so that with one vector a sequence a
block is the scatter of a few dozen directions.

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

    def __init__(self, sinks: int = 4, draws: int = 1) -> None:
        """`sinks`: leading tokens of each sequence left out of the mean; `draws`: random vectors for each sequence."""
        if draws < 1:
            raise ValueError(f"Cannot take {draws} draws a sequence: expected 1 or more")
        self.sinks = sinks
        self.draws = draws
        self.tokens = 0
        self.sequences = 0
        # Of even and of odd sequences.
        self._sums: dict[tuple[str, int], list[np.ndarray]] = {}

    def add(self, model: Any, ids: np.ndarray, generator: torch.Generator, context: int | None = None) -> float:
        """
        Adds a sequence, int [tokens]: the cache of its first `context` tokens (default: three quarters), the loss over
        the others. Returns the entropy of the model's predictions over these, in nats per token.
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
        probabilities = logits.detach().softmax(-1)
        for draw in range(self.draws):
            z = score_vector(probabilities, generator)
            again = draw + 1 < self.draws
            gradients = torch.autograd.grad(logits, list(cache.leaves.values()), z, retain_graph=again)
            for (kind, layer), gradient in zip(cache.leaves, gradients):
                self._accumulate(kind, layer, gradient)
        self.tokens += context - self.sinks
        self.sequences += 1
        return float(-torch.xlogy(probabilities, probabilities).sum(-1).mean())

    def mean(self, kind: str) -> list[np.ndarray]:
        """F of every layer, float64 [kv_heads, dim, dim] each; `kind` is "key" or "value"."""
        return [(even + odd) / (self.tokens * self.draws) for even, odd in self._halves(kind)]

    def estimate(self, kind: str) -> list[np.ndarray]:
        """
        F of every layer as `mean` has it, each head's block drawn towards the multiple of the identity that has its
        trace, by as much as the blocks of even and odd sequences differ (Ledoit and Wolf 2004): what they have in
        common is the model's, what they have not is chance. Blocks of one sequence stay.
        """
        layers = zip(self.mean(kind), self.common(kind))
        return [np.stack([shrink(block, share) for block, share in zip(*layer)]) for layer in layers]

    def common(self, kind: str) -> list[list[float]]:
        """What the blocks of even and odd sequences have in common (`common_share`), of every layer and head."""
        return [[common_share(*blocks) for blocks in zip(*halves)] for halves in self._halves(kind)]

    def _halves(self, kind: str) -> list[list[np.ndarray]]:
        layers = sorted(layer for k, layer in self._sums if k == kind)
        if not layers or layers != list(range(len(layers))):
            raise ValueError(f"Cannot take the mean: {kind}s were seen in layers {layers}, expected all from 0 on")
        return [self._sums[kind, layer] for layer in layers]

    def _accumulate(self, kind: str, layer: int, gradient: torch.Tensor) -> None:
        g = gradient[0, :, self.sinks :].double()
        product = torch.einsum("hti,htj->hij", g, g).numpy()
        halves = self._sums.setdefault((kind, layer), [np.zeros_like(product) for _ in range(2)])
        halves[self.sequences % 2] += product


def common_share(even: np.ndarray, odd: np.ndarray) -> float:
    """
    The share of the mean of two blocks' deviations from the identity that both have, 0 to 1: what is left of its square
    when it is taken between the two, in which chance has no part.
    """
    if not (np.trace(even) > 0 and np.trace(odd) > 0):
        return 1.0
    a, b = (half / np.trace(half) - np.eye(len(half)) / len(half) for half in (even, odd))
    mean = (a + b) / 2
    square = (mean * mean).sum()
    return float(np.clip((a * b).sum() / square, 0.0, 1.0)) if square > 0 else 1.0


def shrink(block: np.ndarray, share: float) -> np.ndarray:
    """The block [dim, dim] with this share of its deviation from the multiple of the identity that has its trace."""
    dim = len(block)
    return share * block + (1 - share) * np.trace(block) / dim * np.eye(dim)


def score_vector(probabilities: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random z [positions, vocabulary] with E[z zᵀ] = diag(p) − p pᵀ at each position."""
    signs = torch.randint(0, 2, probabilities.shape, generator=generator) * 2 - 1
    scaled = probabilities.sqrt() * signs
    return scaled - probabilities * scaled.sum(-1, keepdim=True)


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
