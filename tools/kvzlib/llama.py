"""A Llama model as numbers and weights: read from a GGUF file, changed by a .safetensors file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize

from .rope import frequencies
from .safefile import read_tensors
from .weights import Weight, from_gguf, half_split_order, plain

# Hugging Face name of a layer's weight → (GGUF name, shape in terms of the sizes below).
_LAYER = {
    "input_layernorm": ("attn_norm", ("hidden",)),
    "self_attn.q_proj": ("attn_q", ("query", "hidden")),
    "self_attn.k_proj": ("attn_k", ("key", "hidden")),
    "self_attn.v_proj": ("attn_v", ("key", "hidden")),
    "self_attn.o_proj": ("attn_output", ("hidden", "query")),
    "post_attention_layernorm": ("ffn_norm", ("hidden",)),
    "mlp.gate_proj": ("ffn_gate", ("ffn", "hidden")),
    "mlp.up_proj": ("ffn_up", ("ffn", "hidden")),
    "mlp.down_proj": ("ffn_down", ("hidden", "ffn")),
}
_MODEL = {
    "model.embed_tokens": ("token_embd", ("vocab", "hidden")),
    "model.norm": ("output_norm", ("hidden",)),
    "lm_head": ("output", ("vocab", "hidden")),
}


@dataclass
class LlamaModel:
    """Sizes, RoPE, and all weights under Hugging Face names (`model.layers.0.self_attn.q_proj.weight`, …)."""

    name: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    dim: int
    vocab: int
    context: int
    epsilon: float
    #: As in the metadata of cache files: theta, dim, scaling.
    rope: dict[str, Any]
    weights: dict[str, Weight]
    #: GGUF metadata, for the tokenizer.
    metadata: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output matrix too."""
        return "lm_head.weight" not in self.weights

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that a model of these sizes may have, by Hugging Face name."""
        size = {
            "hidden": self.hidden,
            "ffn": self.ffn,
            "query": self.heads * self.dim,
            "key": self.kv_heads * self.dim,
            "vocab": self.vocab,
        }
        names = {f"{hf}.weight": shape for hf, (_, shape) in _MODEL.items()}
        for n in range(self.layers):
            names |= {f"model.layers.{n}.{hf}.weight": shape for hf, (_, shape) in _LAYER.items()}
        return {name: tuple(size[s] for s in shape) for name, shape in names.items()}

    def inverse_frequencies(self) -> np.ndarray:
        """Angle per position of each rotated pair, float32 [dim / 2]."""
        inverse, factor = frequencies(self.rope)
        if factor != 1:
            raise ValueError(f"Cannot export model: RoPE scales its vectors by {factor}, expected 1")
        return inverse.astype(np.float32)


def read_llama(path: Path) -> LlamaModel:
    """
    Reads a GGUF file of architecture `llama`; q and k rows come out in half-split order.

    Raises ValueError, by name, for another architecture, experts, other RoPE scaling, partial rotation, and tensors
    that are missing, unknown or of another shape than the metadata state.
    """
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError) as error:
        # The reader says what a cut file lacks in NumPy's words: "cannot reshape array of size …".
        raise ValueError(f"Cannot read {path}: not a whole GGUF file ({error})") from error
    meta = {name: f.contents() for name, f in reader.fields.items() if not name.startswith("GGUF.")}
    architecture = meta.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"Cannot export model: architecture {architecture}, expected llama")

    def get(key: str, default: Any = None) -> Any:
        """A number of the model, by its key after `llama.`."""
        value = meta.get(f"llama.{key}", default)
        if value is None:
            raise ValueError(f"Cannot export model: {path.name} has no llama.{key}")
        return value

    if get("expert_count", 0):
        raise ValueError(f"Cannot export model: {get('expert_count')} experts, expected a dense model")
    tensors = {t.name: t for t in reader.tensors}
    if "token_embd.weight" not in tensors:
        raise ValueError(f"Cannot export model: {path.name} has no tensor token_embd.weight")
    heads, hidden = get("attention.head_count"), get("embedding_length")
    dim = get("attention.key_length", hidden // heads)
    for key, size in (("attention.value_length", dim), ("rope.dimension_count", dim)):
        if get(key, size) != size:
            raise ValueError(f"Cannot export model: llama.{key} is {get(key)}, expected {size}, the size of a key")
    model = LlamaModel(
        # "SmolLM2-135M-Instruct.Q4_1.gguf": the name of the weights without their quantization.
        name=path.name.removesuffix(".gguf").split(".Q")[0],
        layers=get("block_count"),
        hidden=hidden,
        ffn=get("feed_forward_length"),
        heads=heads,
        kv_heads=get("attention.head_count_kv", heads),
        dim=dim,
        vocab=int(tensors["token_embd.weight"].shape[-1]),
        context=get("context_length"),
        epsilon=_short(get("attention.layer_norm_rms_epsilon")),
        rope=_rope(meta, dim, tensors.pop("rope_freqs.weight", None)),
        weights={},
        metadata=meta,
    )
    _read_weights(model, tensors)
    return model


def _read_weights(model: LlamaModel, tensors: dict[str, Any]) -> None:
    shapes = model.shapes()
    names = {f"{hf}.weight": f"{gguf}.weight" for hf, (gguf, _) in _MODEL.items()}
    for n in range(model.layers):
        names |= {f"model.layers.{n}.{hf}.weight": f"blk.{n}.{gguf}.weight" for hf, (gguf, _) in _LAYER.items()}
    converted: dict[str, int] = {}
    for name, stored in names.items():
        tensor = tensors.pop(stored, None)
        if tensor is None:
            if name == "lm_head.weight":
                continue
            raise ValueError(f"Cannot export model: the GGUF file has no tensor {stored}")
        shape = tuple(int(s) for s in reversed(tensor.shape))
        if shape != shapes[name]:
            raise ValueError(f"Cannot export model: {stored} has shape {shape}, expected {shapes[name]}")
        kind = tensor.tensor_type.name
        weight = from_gguf(tensor.data, kind, shape)
        if weight is None:
            weight = plain(dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape))
            converted[kind] = converted.get(kind, 0) + 1
        if name.endswith("q_proj.weight"):
            weight = weight.rows(half_split_order(model.heads, model.dim))
        elif name.endswith("k_proj.weight"):
            weight = weight.rows(half_split_order(model.kv_heads, model.dim))
        model.weights[name] = weight
    if tensors:
        raise ValueError(f"Cannot export model: tensor {sorted(tensors)[0]} is not known")
    model.notes += [f"{count} tensors of type {kind} are stored as float32" for kind, count in converted.items()]


def _short(x: float) -> float:
    """The shortest decimal of a binary32 number: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(x)))


def _rope(meta: dict[str, Any], dim: int, factors: Any) -> dict[str, Any]:
    rope: dict[str, Any] = {"theta": _short(meta.get("llama.rope.freq_base", 10000.0)), "dim": dim}
    kind = meta.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        rope["scaling"] = {"type": "linear", "factor": _short(meta["llama.rope.scaling.factor"])}
    elif kind != "none":
        raise ValueError(f"Cannot export model: RoPE scaling {kind}, expected none, linear or the factors of Llama 3")
    if factors is not None:
        # The file has only the quotients; the four parameters of all Llama 3 models are tried for.
        quotients = np.asarray(factors.data, np.float64)
        scaling = {
            "type": "llama3",
            "factor": float(quotients.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        plain_turns, _ = frequencies(rope)
        scaled, _ = frequencies({**rope, "scaling": scaling})
        if kind != "none" or not np.allclose(plain_turns / scaled, quotients, rtol=1e-4):
            raise ValueError("Cannot export model: rope_freqs.weight is not the scaling of Llama 3")
        rope["scaling"] = scaling
    return rope


def replace_weights(model: LlamaModel, path: Path) -> int:
    """
    Puts the weights of a .safetensors file (Hugging Face names, q and k rows in Hugging Face order) in place of the
    model's, stored as they are; returns how many. Raises ValueError for an unknown name or another shape.
    """
    try:
        tensors, _ = read_tensors(path)
    except (ValueError, KeyError, struct.error) as error:
        raise ValueError(f"Cannot read {path.name}: not a whole .safetensors file ({error})") from error
    shapes = model.shapes()
    for name, x in tensors.items():
        if name not in shapes:
            raise ValueError(f"Cannot use {path.name}: weight {name} is not in the model")
        if x.shape != shapes[name]:
            raise ValueError(f"Cannot use {path.name}: {name} has shape {x.shape}, expected {shapes[name]}")
        if x.dtype not in (np.float32, np.float16):
            raise ValueError(f"Cannot use {path.name}: {name} is {x.dtype}, expected float32, float16 or bfloat16")
        model.weights[name] = plain(x)
    return len(tensors)
