"""Makes tiny_decoder.onnx: the smallest graph with the inputs and outputs of a decoder with past, for tests of caches on
a GPU. Two layers, two KV heads of dimension 8, 32 tokens; keys and values are rows of tables, and the logits depend on
every token of the past.

    python3 tests/model/tiny_decoder.py
"""
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, HEADS, DIM, VOCABULARY = 2, 2, 8, 32
KINDS = ("key", "value")

rng = np.random.default_rng(4)
nodes, inputs, outputs, weights = [], [], [], []


def weight(name, array):
    weights.append(numpy_helper.from_array(array, name))
    return name


def node(op, sources, result, **attributes):
    nodes.append(helper.make_node(op, sources, [result], **attributes))
    return result


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


inputs.append(value("input_ids", TensorProto.INT64, ["batch_size", "new"]))
head_shape = weight("head_shape", np.array([1, -1, HEADS, DIM], np.int64))
flat = weight("flat", np.array([1, 1, HEADS * DIM], np.int64))
axis = weight("axis", np.array([2], np.int64))
scores = []
for layer in range(LAYERS):
    for kind in KINDS:
        name = f"{layer}.{kind}"
        table = weight(f"table.{name}", rng.standard_normal((VOCABULARY, HEADS * DIM)).astype(np.float32))
        rows = node("Gather", [table, "input_ids"], f"rows.{name}")
        heads = node("Reshape", [rows, head_shape], f"heads.{name}")
        new = node("Transpose", [heads], f"new.{name}", perm=[0, 2, 1, 3])
        node("Concat", [f"past_key_values.{name}", new], f"present.{name}", axis=2)
        inputs.append(value(f"past_key_values.{name}", TensorProto.FLOAT, ["batch_size", HEADS, "past", DIM]))
        outputs.append(value(f"present.{name}", TensorProto.FLOAT, ["batch_size", HEADS, "all", DIM]))
    product = node("Mul", [f"present.{layer}.key", f"present.{layer}.value"], f"product.{layer}")
    total = node("ReduceSum", [product, axis], f"total.{layer}", keepdims=0)
    scores.append(node("Reshape", [total, flat], f"score.{layer}"))
head = weight("head", rng.standard_normal((HEADS * DIM, VOCABULARY)).astype(np.float32))
node("MatMul", [node("Add", scores, "sum"), head], "logits")
outputs.insert(0, value("logits", TensorProto.FLOAT, ["batch_size", 1, VOCABULARY]))

graph = helper.make_graph(nodes, "tiny_decoder", inputs, outputs, weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.checker.check_model(model)
onnx.save(model, Path(__file__).with_name("tiny_decoder.onnx"))
