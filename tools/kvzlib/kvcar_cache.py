"""
Autoencoders and head reuse put into a Hugging Face model: keys and values pass through them on their way to attention,
those of the current token too.

That a query sees its own token reconstructed is our choice, as the paper does not say what training does: it computes a
whole sequence at once, and errs on the side of more damage than a decoder has, whose newest token is raw.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from .kvcar_net import KINDS, Autoencoder
from .kvcar_reuse import stored_heads
# By way of model.py, which has transformers be quiet before it is imported.
from .model import DynamicCache, cache_argument


class Compressor(nn.Module):
    """
    The autoencoders of a model by (kind, layer), and the sources of its slots.

    After a forward pass `l1` holds, by (kind, layer), the mean absolute error of what an autoencoder or reuse changed.
    """

    def __init__(self, sources: dict[str, np.ndarray], pre_rope: bool = False) -> None:
        super().__init__()
        self.sources = sources
        self.pre_rope = pre_rope
        self.autoencoders = nn.ModuleDict()
        #: Layers in use; None: all that there are.
        self.active: set[int] | None = None
        self.l1: dict[tuple[str, int], torch.Tensor] = {}
        #: Called with (kind, layer, what came from the model).
        self.watch: Callable[[str, int, torch.Tensor], None] | None = None
        self._held: dict[tuple[str, int], torch.Tensor] = {}

    def insert(self, layer: int, dims: dict[str, int], share: float, hidden: float, slope: float) -> None:
        """
        Adds new autoencoders of a layer's keys and values, over the heads that it stores: d_z = share · D, h = hidden · D.
        `dims`: elements of a head.
        """
        for kind in KINDS:
            inputs = len(stored_heads(self.sources[kind], layer)) * dims[kind]
            if inputs == 0:
                raise ValueError(f"Cannot insert an autoencoder: layer {layer} stores no {kind}s")
            latent, width = round(share * inputs), round(hidden * inputs)
            if not 1 <= latent <= inputs or width < 1:
                raise ValueError(f"Cannot insert an autoencoder: {inputs} → {width} → {latent} elements")
            self.autoencoders[f"{kind}_{layer}"] = Autoencoder(inputs, width, latent, slope)

    def of(self, kind: str, layer: int) -> Autoencoder | None:
        """The autoencoder in use."""
        if self.active is not None and layer not in self.active:
            return None
        name = f"{kind}_{layer}"
        return self.autoencoders[name] if name in self.autoencoders else None

    def layers(self) -> list[int]:
        """Layers with autoencoders in use, rising."""
        all_layers = sorted({int(name.split("_")[1]) for name in self.autoencoders})
        return [n for n in all_layers if self.active is None or n in self.active]

    def begin(self) -> None:
        """Forgets the last forward pass."""
        self.l1.clear()
        self._held.clear()

    def through(self, kind: str, layer: int, x: torch.Tensor) -> torch.Tensor:
        """What attention gets in place of [batch, heads, tokens, dim]."""
        if self.watch is not None:
            self.watch(kind, layer, x)
        sources = self.sources[kind]
        batch, heads, tokens, dim = x.shape
        if sources.shape[1] != heads:
            raise ValueError(f"Cannot compress layer {layer}: it has {heads} KV heads, expected {sources.shape[1]}")
        stored = stored_heads(sources, layer)
        autoencoder = self.of(kind, layer)
        parts = {h: x[:, h] for h in stored}
        errors = []
        if autoencoder is not None:
            rows = x[:, stored].transpose(1, 2).reshape(batch * tokens, len(stored) * dim)
            restored = autoencoder(rows)
            errors.append((restored - rows).abs().reshape(-1))
            shaped = restored.reshape(batch, tokens, len(stored), dim)
            parts = {h: shaped[:, :, i] for i, h in enumerate(stored)}
        for h in range(heads):
            if h not in parts:
                source_layer, source_head = divmod(int(sources[layer, h]), heads)
                parts[h] = self._held[kind, source_layer][:, source_head]
                errors.append((parts[h] - x[:, h]).abs().reshape(-1))
        out = torch.stack([parts[h] for h in range(heads)], dim=1)
        self._held[kind, layer] = out
        if errors:
            self.l1[kind, layer] = torch.cat(errors).mean()
        return out


class _CompressingCache(DynamicCache):
    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        if self.get_seq_length(layer_idx) > 0:
            raise ValueError("Cannot compress a cache that grows: whole sequences only")
        if not self._compressor.pre_rope:
            key_states = self._compressor.through("key", layer_idx, key_states)
        value_states = self._compressor.through("value", layer_idx, value_states)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@contextmanager
def _before_rope(model: Any, compressor: Compressor) -> Iterator[None]:
    """Sends keys through the compressor before they are rotated, the layers in turn."""
    module = sys.modules[type(model).__module__]
    rotate = getattr(module, "apply_rotary_pos_emb", None)
    if rotate is None:
        raise ValueError(f"Cannot find the keys before RoPE: {module.__name__} has no apply_rotary_pos_emb")
    layer = 0

    def through(q: torch.Tensor, k: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal layer
        k = compressor.through("key", layer, k)
        layer += 1
        return rotate(q, k, *args, **kwargs)

    module.apply_rotary_pos_emb = through
    try:
        yield
    finally:
        module.apply_rotary_pos_emb = rotate
    layers = model.config.num_hidden_layers
    if layer != layers:
        raise ValueError(f"Cannot take keys before RoPE: {layer} were rotated in {layers} layers")


def logits(model: Any, compressor: Compressor, ids: torch.Tensor) -> torch.Tensor:
    """Logits [batch, tokens, vocabulary] of whole sequences int64 [batch, tokens] that attend to compressed caches."""
    compressor.begin()
    cache = cache_argument(model, _CompressingCache(compressor))
    if not compressor.pre_rope:
        return model(ids, **cache).logits
    with _before_rope(model, compressor):
        return model(ids, **cache).logits


def cross_entropy(model: Any, compressor: Compressor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of tokens 1 … n − 1, nats."""
    out = logits(model, compressor, ids)
    return nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
