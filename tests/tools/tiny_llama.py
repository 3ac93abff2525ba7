"""A tiny Llama model for tests: written as a GGUF file, and computed in float64 by plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, DIM, VOCAB, CONTEXT, EPSILON, THETA = 2, 64, 96, 4, 2, 16, 80, 128, 1e-5, 1e4

_SHAPES = {
    "self_attn.q_proj": ("attn_q", (HEADS * DIM, HIDDEN)),
    "self_attn.k_proj": ("attn_k", (KV_HEADS * DIM, HIDDEN)),
    "self_attn.v_proj": ("attn_v", (KV_HEADS * DIM, HIDDEN)),
    "self_attn.o_proj": ("attn_output", (HIDDEN, HEADS * DIM)),
    "mlp.gate_proj": ("ffn_gate", (FFN, HIDDEN)),
    "mlp.up_proj": ("ffn_up", (FFN, HIDDEN)),
    "mlp.down_proj": ("ffn_down", (HIDDEN, FFN)),
    "input_layernorm": ("attn_norm", (HIDDEN,)),
    "post_attention_layernorm": ("ffn_norm", (HIDDEN,)),
}

#: Types of the linears in turn.
MIXED = ("Q4_1", "F16", "F32", "Q4_1", "Q8_0")


def write_gguf(
    path: Path,
    kinds: tuple[str, ...] = MIXED,
    embedding: str = "Q8_0",
    tied: bool = True,
    architecture: str = "llama",
    leave_out: str | None = None,
    extra: dict[str, np.ndarray] | None = None,
    metadata: dict[str, Any] | None = None,
    tokenizer: bool = False,
) -> dict[str, np.ndarray]:
    """Writes a model of random weights; returns the weights as stored, float64, under Hugging Face names."""
    random = np.random.default_rng(7)
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(DIM)
    writer.add_layer_norm_rms_eps(EPSILON)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_float32(key, value)
    if tokenizer:
        _add_tokenizer(writer)
    weights: dict[str, np.ndarray] = {}

    def add(name: str, stored: str, shape: tuple[int, ...], kind: str, heads: int = 0) -> None:
        gain = len(shape) == 1
        x = (random.standard_normal(shape) * 0.3 + gain).astype(np.float32)
        number = GGMLQuantizationType[kind]
        raw = quantize(x, number)
        weights[name] = dequantize(raw, number).reshape(shape).astype(np.float64)
        if heads:
            # As llama.cpp's converter lays the rows of q and k out.
            raw = raw.reshape(heads, 2, DIM // 2, *raw.shape[1:]).swapaxes(1, 2).reshape(raw.shape)
        if stored != leave_out:
            writer.add_tensor(stored, np.ascontiguousarray(raw), raw_dtype=number)

    add("model.embed_tokens.weight", "token_embd.weight", (VOCAB, HIDDEN), embedding)
    add("model.norm.weight", "output_norm.weight", (HIDDEN,), "F32")
    if not tied:
        add("lm_head.weight", "output.weight", (VOCAB, HIDDEN), kinds[0])
    turn = 0
    for n in range(LAYERS):
        for name, (stored, shape) in _SHAPES.items():
            kind = "F32" if len(shape) == 1 else kinds[turn % len(kinds)]
            turn += len(shape) == 2
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(stored, 0)
            add(f"model.layers.{n}.{name}.weight", f"blk.{n}.{stored}.weight", shape, kind, heads)
    for name, x in (extra or {}).items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _add_tokenizer(writer: GGUFWriter) -> None:
    """Byte-level BPE of 76 single characters, one merge, and three special tokens."""
    letters = [chr(c) for c in range(33, 109)]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")


def rotate(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """RoPE of x [heads, tokens, DIM] as complex numbers."""
    angles = positions[:, None] * THETA ** (-np.arange(DIM // 2) * 2 / DIM)
    z = (x[..., : DIM // 2] + 1j * x[..., DIM // 2 :]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


def forward(
    weights: dict[str, np.ndarray],
    ids: np.ndarray,
    positions: np.ndarray,
    past: list[dict[str, np.ndarray]] | None = None,
    bias: np.ndarray | None = None,
    source: list[int] | None = None,
) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """
    Logits [tokens, VOCAB] of one sequence, and for each layer `key` and `value` [KV_HEADS, past + tokens, DIM],
    `query` and `rotated_query` [HEADS, tokens, DIM], `attention_input` [tokens, HIDDEN].

    `bias` [LAYERS, KV_HEADS, past]; layer n attends to the keys and values of layer source[n].
    """

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weights[f"{name}.weight"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(ids), -1, DIM).transpose(1, 0, 2)

    x = weights["model.embed_tokens.weight"][ids]
    layers: list[dict[str, np.ndarray]] = []
    for n in range(LAYERS):
        own = {part: weights[f"model.layers.{n}.{part}.weight"] for part in _SHAPES}
        h = norm(x, f"model.layers.{n}.input_layernorm")
        q, k, v = (split(h @ own[f"self_attn.{p}_proj"].T) for p in "qkv")
        layer = {"attention_input": h, "query": q, "rotated_query": rotate(q, positions)}
        layer |= {"key": rotate(k, positions), "value": v}
        if past is not None:
            layer |= {kind: np.concatenate([past[n][kind], layer[kind]], axis=1) for kind in ("key", "value")}
        layers.append(layer)
        seen = layers[n if source is None else source[n]]
        out = np.zeros((HEADS, len(ids), DIM))
        before = seen["key"].shape[1] - len(ids)
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            for t in range(len(ids)):
                keys, values = seen["key"][group, : before + t + 1], seen["value"][group, : before + t + 1]
                scores = keys @ layer["rotated_query"][head, t] / np.sqrt(DIM)
                if bias is not None:
                    scores[:before] += bias[n, group]
                share = np.exp(scores - scores.max())
                out[head, t] = share @ values / share.sum()
        x = x + out.transpose(1, 0, 2).reshape(len(ids), -1) @ own["self_attn.o_proj"].T
        h = norm(x, f"model.layers.{n}.post_attention_layernorm")
        gate = h @ own["mlp.gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ own["mlp.up_proj"].T)) @ own["mlp.down_proj"].T
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return norm(x, "model.norm") @ head.T, layers
