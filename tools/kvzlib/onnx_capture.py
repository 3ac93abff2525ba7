"""
The ONNX graph `capture` of a Llama model, for evaluation: standard operators alone, none of them fused.

It takes two inputs more than `model`: `attention_bias` [layers, kv_heads, past], added to the scores of the past tokens
for all query heads of a KV head (−∞: evicted), and `layer_source` [layers], the layer whose keys and values a layer
attends to. Queries before and after RoPE, the inputs of attention and the final hidden states come out.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto

from .llama import LlamaModel
from .onnx_builder import Dims, GraphBuilder
from .onnx_llama import FLOAT, INT64, LlamaGraph

#: Added to scores that must not count. Finite: a row of padding that may attend to nothing must not become NaN.
MASKED = -1e30


def build_capture(model: LlamaModel) -> ModelProto:
    """The graph `capture`: standard operators alone."""
    c = LlamaGraph(model)
    b, m = c.b, model
    group = m.heads // m.kv_heads
    b.input("attention_bias", FLOAT, [m.layers, m.kv_heads, "past_sequence_length"])
    b.input("layer_source", INT64, [m.layers])
    # A negative index would count from the end; it becomes one that is out of range.
    negative = b.node("Less", "layer_source", b.constant(0))
    sources = b.node("Where", negative, b.constant(m.layers), "layer_source")

    turns = b.node("Cast", b.node("Unsqueeze", "position_ids", b.constant([1, 3])), to=FLOAT)
    angles = b.node("Mul", turns, b.tensor("inverse_frequencies", m.inverse_frequencies()))
    cos, sin = b.node("Cos", angles), b.node("Sin", angles)

    def rotate(x: str, name: str | None = None) -> str:
        first, second = b.node("Split", x, outputs=[None, None], axis=-1, num_outputs=2)
        upper = b.node("Sub", b.node("Mul", first, cos), b.node("Mul", second, sin))
        lower = b.node("Add", b.node("Mul", second, cos), b.node("Mul", first, sin))
        return b.node("Concat", upper, lower, outputs=[name], axis=-1)

    def norm(x: str, gain: str, name: str | None = None) -> str:
        mean = b.node("ReduceMean", b.node("Mul", x, x), b.constant([-1]))
        root = b.node("Sqrt", b.node("Add", mean, b.constant(m.epsilon, np.float32)))
        return b.node("Mul", b.node("Div", x, root), c.gain(gain), outputs=[name])

    mask, bias, keys = _masks(b, m)
    split = b.node("Concat", b.constant([0, 0, group, -1]), keys, axis=0)
    join = b.node("Concat", b.constant([0, 0, -1]), keys, axis=0)
    cache: dict[str, list[str]] = {"key": [], "value": []}
    extra: dict[str, Dims] = {}
    x = c.x
    for n in range(m.layers):
        normed = norm(x, f"model.layers.{n}.input_layernorm", f"attention_input.{n}")
        q, k, v = (c.linear(normed, n, f"self_attn.{p}_proj") for p in "qkv")
        q = rotate(c.heads(q, m.heads, f"query.{n}"), f"rotated_query.{n}")
        new = {"key": rotate(c.heads(k, m.kv_heads)), "value": c.heads(v, m.kv_heads)}
        for past, kind in zip(c.past[n], new):
            cache[kind].append(b.node("Concat", past, new[kind], outputs=[f"present.{n}.{kind}"], axis=2))
        k, v = _source(b, n, sources, cache)

        # The query heads of one KV head stand below each other: [batch, kv_heads, group · tokens, dim].
        q = b.node("Reshape", q, b.constant([0, m.kv_heads, -1, m.dim]))
        q = b.node("Mul", q, b.constant(m.dim**-0.5, np.float32))
        scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
        own = b.node("Unsqueeze", b.node("Gather", bias, b.constant(n)), b.constant([0, 2, 3]))
        scores = b.node("Add", b.node("Reshape", scores, split), b.node("Add", mask, own))
        weights = b.node("Reshape", b.node("Softmax", scores, axis=-1), join)
        out = b.node("Reshape", b.node("MatMul", weights, v), b.constant([0, m.heads, -1, m.dim]))
        out = b.node("Reshape", b.node("Transpose", out, perm=[0, 2, 1, 3]), b.constant([0, 0, m.heads * m.dim]))
        x = b.node("Add", x, c.linear(out, n, "self_attn.o_proj"))
        x = b.node("Add", x, c.mlp(norm(x, f"model.layers.{n}.post_attention_layernorm"), n))

        heads = ["batch_size", m.heads, "sequence_length", m.dim]
        extra |= {f"query.{n}": heads, f"rotated_query.{n}": heads}
        extra |= {f"attention_input.{n}": ["batch_size", "sequence_length", m.hidden]}
    extra["final_hidden"] = ["batch_size", "logits_length", m.hidden]
    c.logits(norm(c.last(x), "model.norm", "final_hidden"))
    return c.finish("capture", extra)


def _masks(b: GraphBuilder, m: LlamaModel) -> tuple[str, str, str]:
    """
    The mask [batch, 1, 1, tokens, keys] of what comes later and of padding, the bias [layers, kv_heads, keys] with
    zeros for the new tokens, and the number of keys [1].
    """
    tokens = b.node("Shape", "input_ids", start=1, end=2)
    past = b.node("Shape", "past_key_values.0.key", start=2, end=3)
    keys = b.node("Add", past, tokens)
    zero, one = b.constant(0), b.constant(1)

    def count(length: str) -> str:
        return b.node("Range", zero, b.node("Squeeze", length), one)

    at = b.node("Add", b.node("Unsqueeze", count(tokens), b.constant([1])), past)
    masked, open_ = b.constant(MASKED, np.float32), b.constant(0, np.float32)
    causal = b.node("Where", b.node("LessOrEqual", count(keys), at), open_, masked)
    present = b.node("Cast", b.node("Unsqueeze", "attention_mask", b.constant([1, 2, 3])), to=TensorProto.BOOL)
    mask = b.node("Add", causal, b.node("Where", present, open_, masked))
    shape = b.node("Concat", b.constant([m.layers, m.kv_heads]), tokens, axis=0)
    bias = b.node("Concat", "attention_bias", b.node("Expand", open_, shape), axis=2)
    return mask, bias, keys


def _source(b: GraphBuilder, layer: int, sources: str, cache: dict[str, list[str]]) -> list[str]:
    """Keys and values that a layer attends to: its own, or those of an earlier layer; nothing is copied otherwise."""
    source = b.node("Gather", sources, b.constant(layer))
    branches = {}
    for branch in ("own", "other"):
        nodes, outputs = [], []
        for kind, layers in cache.items():
            name = f"{branch}.{layer}.{kind}"
            if branch == "own":
                nodes.append(("Identity", [layers[-1]], name))
            else:
                nodes += [("SequenceConstruct", layers, f"{name}.all"), ("SequenceAt", [f"{name}.all", source], name)]
            outputs.append(name)
        branches[branch] = b.branch(f"{branch}.{layer}", nodes, outputs)
    own = b.node("Equal", source, b.constant(layer))
    return b.node("If", own, outputs=[None, None], then_branch=branches["own"], else_branch=branches["other"])
