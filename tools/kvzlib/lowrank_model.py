"""What Palu and ReCalKV take of a language model: weights and inputs of k_proj and v_proj, Fisher scores; and surgery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

KINDS = ("key", "value")
_NAMES = {"key": "k_proj", "value": "v_proj"}


def attention_of(model: Any, layer: int) -> Any:
    """A decoder layer's attention."""
    return model.base_model.layers[layer].self_attn


def check_model(model: Any) -> int:
    """
    The number of layers. Raises ValueError for a model to which the methods do not apply: their latents stand for what
    k_proj and v_proj give, so nothing but RoPE may follow.
    """
    layers = getattr(model.base_model, "layers", [])
    for n in range(len(layers)):
        attention = getattr(layers[n], "self_attn", None)
        for name in _NAMES.values():
            if not isinstance(getattr(attention, name, None), torch.nn.Linear):
                raise ValueError(f"Cannot fit layer {n}: its attention has no linear {name}")
        if getattr(attention, "k_norm", None) is not None:
            raise ValueError(f"Cannot fit layer {n}: its keys are normalized after k_proj, a latent cannot stand for them")
    if len(layers) == 0:
        raise ValueError("Cannot fit the model: it has no decoder layers")
    return len(layers)


def weight_of(model: Any, layer: int, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight [kv_heads · dim, hidden] and bias of a projection, float64."""
    linear = getattr(attention_of(model, layer), _NAMES[kind])
    bias = None if linear.bias is None else linear.bias.detach().double().numpy()
    return linear.weight.detach().double().numpy(), bias


def fisher_scores(model: Any, sequences: list[np.ndarray]) -> dict[str, list[float]]:
    """
    Mean over a weight's elements of √(mean over sequences of gradient²), for every k_proj and v_proj; the loss is the mean
    cross-entropy of the next token. (The authors shift the labels twice and so predict the token after the next.)
    """
    layers = check_model(model)
    weights = {(kind, n): getattr(attention_of(model, n), _NAMES[kind]).weight for kind in KINDS for n in range(layers)}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    squares = {key: torch.zeros_like(weight) for key, weight in weights.items()}
    for ids in sequences:
        for weight in weights.values():
            weight.requires_grad_(True)
            weight.grad = None
        with torch.enable_grad():
            x = torch.from_numpy(ids.astype(np.int64))[None]
            logits = model(x, use_cache=False).logits[0]
            torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:]).backward()
        for key, weight in weights.items():
            squares[key] += weight.grad.pow(2)
            weight.requires_grad_(False)
            weight.grad = None
    mean = {key: float((square / len(sequences)).sqrt().double().mean()) for key, square in squares.items()}
    return {kind: [mean[kind, n] for n in range(layers)] for kind in KINDS}


@dataclass
class Sequence:
    """A sequence under way through the layers: what enters the next one, and what else each layer is given."""

    hidden: torch.Tensor
    arguments: list[dict[str, Any]] = field(default_factory=list)


class _Stop(Exception):
    """Ends a layer's pass once the wanted input is known."""


def begin(model: Any, ids: np.ndarray) -> Sequence:
    """Runs a sequence to know how the model calls its layers; it then stands before the first."""
    out: list[Sequence] = []

    def watch(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        if not out:
            out.append(Sequence(hidden.detach().clone()))
        rest = {name: value for name, value in kwargs.items() if name not in ("hidden_states", "past_key_values")}
        out[0].arguments.append(rest)

    handles = [layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in model.base_model.layers]
    try:
        with torch.no_grad():
            model.base_model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return out[0]


def projection_inputs(model: Any, layer: int, sequence: Sequence) -> np.ndarray:
    """What k_proj and v_proj of a layer are given, float64 [tokens, hidden]; the sequence stays before the layer."""
    seen: list[torch.Tensor] = []

    def stop(_: Any, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())
        raise _Stop

    handle = attention_of(model, layer).k_proj.register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            model.base_model.layers[layer](sequence.hidden, **sequence.arguments[layer])
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0][0].double().numpy()


def advance(model: Any, layer: int, sequence: Sequence) -> None:
    """Runs a sequence through a layer."""
    with torch.no_grad():
        out = model.base_model.layers[layer](sequence.hidden, **sequence.arguments[layer])
    sequence.hidden = out[0] if isinstance(out, tuple) else out


class LowRankProjection(torch.nn.Module):
    """Stands for k_proj or v_proj: latents of each group of heads, quantized or not, then the heads in their order."""

    def __init__(
        self,
        encoders: list[np.ndarray],
        decoders: list[np.ndarray],
        rows: np.ndarray,
        bias: np.ndarray | None,
        quantize: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """`rows`: place in the projection's output of each row of the decoders, one after another."""
        super().__init__()
        for parts, name in ((encoders, "encoder"), (decoders, "decoder")):
            for n, part in enumerate(parts):
                self.register_buffer(f"{name}{n}", torch.from_numpy(part).float())
        self.groups = len(encoders)
        self.register_buffer("inverse", torch.from_numpy(np.argsort(rows)))
        self.register_buffer("bias", None if bias is None else torch.from_numpy(bias).float())
        self.quantize = quantize

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = []
        for n in range(self.groups):
            latent = x @ getattr(self, f"encoder{n}").T
            if self.quantize is not None:
                latent = self.quantize(latent)
            parts.append(latent @ getattr(self, f"decoder{n}").T)
        y = torch.cat(parts, dim=-1).index_select(-1, self.inverse)
        return y if self.bias is None else y + self.bias


def quantizer(bits: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Both codes' symmetric quantizer of a latent of a token: scale = max |z| ÷ (2^(bits−1) − 1), no clipping."""
    most = 2 ** (bits - 1) - 1

    def apply(latent: torch.Tensor) -> torch.Tensor:
        scale = (latent.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5) / most).half().float()
        return (latent / scale).round().clamp(-most - 1, most) * scale

    return apply


def replace(model: Any, layer: int, kind: str, module: torch.nn.Module) -> None:
    """Puts a projection in the place of the model's."""
    setattr(attention_of(model, layer), _NAMES[kind], module)
