"""
The ONNX graph `model` of a Llama model, and what it shares with `capture` (onnx_capture.py).

`model` is fast, with onnxruntime's own attention and norms; it is what Transformers.js loads.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto

from .llama import LlamaModel
from .onnx_builder import Dims, GraphBuilder

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


class LlamaGraph:
    """What both graphs share: inputs, embedding, MLP, logits. `m` is the model, `b` the graph, `x` the embedding."""

    def __init__(self, model: LlamaModel) -> None:
        self.m = model
        self.b = GraphBuilder()
        self.b.input("input_ids", INT64, ["batch_size", "sequence_length"])
        self.b.input("attention_mask", INT64, ["batch_size", "total_sequence_length"])
        self.b.input("position_ids", INT64, ["batch_size", "sequence_length"])
        # A scalar: 0 stands for all tokens.
        self.b.input("num_logits_to_keep", INT64, [])
        self.past = [
            tuple(
                self.b.input(
                    f"past_key_values.{n}.{kind}",
                    FLOAT,
                    ["batch_size", model.kv_heads, "past_sequence_length", model.dim],
                )
                for kind in ("key", "value")
            )
            for n in range(model.layers)
        ]
        self.x = self.b.embedding("model.embed_tokens.weight", model.weights["model.embed_tokens.weight"], "input_ids")

    def linear(self, x: str, layer: int, part: str) -> str:
        """x times a layer's matrix, for example `self_attn.q_proj`."""
        name = f"model.layers.{layer}.{part}.weight"
        return self.b.linear(x, name, self.m.weights[name])

    def gain(self, name: str) -> str:
        """The weight vector of a norm."""
        return self.b.tensor(f"{name}.weight", self.m.weights[f"{name}.weight"].floats())

    def mlp(self, x: str, layer: int) -> str:
        """down(silu(gate(x)) · up(x))."""
        gate = self.linear(x, layer, "mlp.gate_proj")
        gate = self.b.node("Mul", gate, self.b.node("Sigmoid", gate))
        return self.linear(self.b.node("Mul", gate, self.linear(x, layer, "mlp.up_proj")), layer, "mlp.down_proj")

    def last(self, x: str) -> str:
        """The last num_logits_to_keep tokens; a slice from −0 is all of them."""
        start = self.b.node("Reshape", self.b.node("Neg", "num_logits_to_keep"), self.b.constant([1]))
        end, axis = self.b.constant([np.iinfo(np.int64).max]), self.b.constant([1])
        return self.b.node("Slice", x, start, end, axis)

    def logits(self, x: str) -> None:
        """The output `logits` of x [batch, tokens, hidden], normed."""
        b, m = self.b, self.m
        name = "model.embed_tokens.weight" if m.tied else "lm_head.weight"
        flat = b.node("Reshape", x, b.constant([-1, m.hidden]))
        out = b.node("Gemm", flat, b.matrix(name, m.weights[name]), transB=1)
        shape = b.node("Concat", b.node("Shape", x, end=2), b.constant([m.vocab]), axis=0)
        b.node("Reshape", out, shape, outputs=["logits"])
        b.output("logits", FLOAT, ["batch_size", "logits_length", m.vocab])

    def heads(self, x: str, heads: int, name: str | None = None) -> str:
        """[batch, tokens, heads · dim] → [batch, heads, tokens, dim]."""
        split = self.b.node("Reshape", x, self.b.constant([0, 0, heads, self.m.dim]))
        return self.b.node("Transpose", split, perm=[0, 2, 1, 3], outputs=[name])

    def finish(self, graph: str, extra: dict[str, Dims]) -> ModelProto:
        """Declares the cache and the outputs in `extra` (name: dimensions); returns the graph under its name."""
        cache = ["batch_size", self.m.kv_heads, "total_sequence_length", self.m.dim]
        for n in range(self.m.layers):
            for kind in ("key", "value"):
                self.b.output(f"present.{n}.{kind}", FLOAT, cache)
        for name, dims in extra.items():
            self.b.output(name, FLOAT, dims)
        return self.b.model(graph, {"model": self.m.name})


def build_model(model: LlamaModel) -> ModelProto:
    """The graph `model`: com.microsoft GroupQueryAttention, RotaryEmbedding and fused norms."""
    c = LlamaGraph(model)
    b, m = c.b, model
    # Angles of all positions, folded when the model is loaded; in float32, as the model was trained.
    positions = b.node(
        "Range", b.constant(0, np.float32), b.constant(m.context, np.float32), b.constant(1, np.float32)
    )
    column = b.node("Reshape", positions, b.constant([-1, 1]))
    angles = b.node("Mul", column, b.tensor("inverse_frequencies", m.inverse_frequencies()[None]))
    cos, sin = b.node("Cos", angles), b.node("Sin", angles)
    length = b.node("ReduceSum", "attention_mask", b.constant([1]), keepdims=0)
    seqlens = b.node("Cast", b.node("Sub", length, b.constant(1)), to=INT32)
    total = b.node("Cast", b.node("Gather", b.node("Shape", "attention_mask"), b.constant(1)), to=INT32)
    epsilon = {"epsilon": m.epsilon}

    def skip_norm(x: str, skip: str, gain: str) -> list[str]:
        """The norm of x + skip, and x + skip."""
        outputs = [None, "", "", None]
        return b.node("ms.SkipSimplifiedLayerNormalization", x, skip, gain, outputs=outputs, **epsilon)

    skip = c.x
    x = b.node("SimplifiedLayerNormalization", skip, c.gain("model.layers.0.input_layernorm"), axis=-1, **epsilon)
    for n in range(m.layers):
        q, k, v = (c.linear(x, n, f"self_attn.{p}_proj") for p in "qkv")
        q = b.node("ms.RotaryEmbedding", q, "position_ids", cos, sin, num_heads=m.heads)
        k = b.node("ms.RotaryEmbedding", k, "position_ids", cos, sin, num_heads=m.kv_heads)
        x, _, _ = b.node(
            "ms.GroupQueryAttention",
            *(q, k, v, *c.past[n], seqlens, total),
            outputs=[None, f"present.{n}.key", f"present.{n}.value"],
            num_heads=m.heads,
            kv_num_heads=m.kv_heads,
        )
        gain = c.gain(f"model.layers.{n}.post_attention_layernorm")
        x, skip = skip_norm(c.linear(x, n, "self_attn.o_proj"), skip, gain)
        x = c.mlp(x, n)
        if n + 1 < m.layers:
            x, skip = skip_norm(x, skip, c.gain(f"model.layers.{n + 1}.input_layernorm"))
    # Only the tokens whose logits are wanted are normed.
    c.logits(skip_norm(c.last(x), c.last(skip), c.gain("model.norm"))[0])
    return c.finish("model", {})
