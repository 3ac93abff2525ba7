"""Writing ONNX graphs: values are known by their names; weights go in packed and become float32 when loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from .weights import Weight

MICROSOFT = "com.microsoft"

#: The first operator set with 4-bit types in Cast.
OPSET = 21

#: Most bytes of one protobuf message, less some for the graph itself.
_LIMIT = 2**31 - 2**24

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int8): TensorProto.INT8,
}

Dims = list[int | str]


class GraphBuilder:
    """A graph under construction."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._matrices: dict[str, str] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._count = 0

    def node(self, op: str, *inputs: str, outputs: list[str | None] | None = None, **attributes: Any) -> Any:
        """
        Adds a node of ai.onnx, or of com.microsoft when the operator begins with `ms.`.

        `outputs`: a name each, None for a name of the builder's, "" for an output that is left out; one output when
        absent. Returns the name, or the list of names when there are several.
        """
        domain, op = (MICROSOFT, op[3:]) if op.startswith("ms.") else ("", op)
        names = [self._fresh(op) if name is None else name for name in outputs or [None]]
        self._nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        made = [name for name in names if name]
        return made[0] if len(made) == 1 else made

    def branch(self, name: str, nodes: list[tuple[str, list[str], str]], outputs: list[str]) -> GraphProto:
        """A branch of an `If`: nodes (operator, inputs, output), which may use all values of the graph around it."""
        made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
        declared = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
        return helper.make_graph(made, name, [], declared)

    def input(self, name: str, dtype: int, dims: Dims) -> str:
        """An input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def output(self, name: str, dtype: int, dims: Dims) -> None:
        """Declares a value an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def constant(self, x: Any, dtype: Any = np.int64) -> str:
        """A small constant; equal ones are stored once."""
        array = np.asarray(x, dtype)
        return self.tensor(f"{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()}", array)

    def tensor(self, name: str, x: np.ndarray, bf16: bool = False) -> str:
        """A tensor under a name of its own; `bf16` says that u16 are the bits of such numbers."""
        if name not in self._initializers:
            kind = TensorProto.BFLOAT16 if bf16 else _TYPES[x.dtype]
            self._initializers[name] = helper.make_tensor(name, kind, x.shape, x.tobytes(), raw=True)
        return name

    def linear(self, x: str, name: str, weight: Weight) -> str:
        """x · Wᵀ for W [out, in]. onnxruntime unpacks W into float32 [in, out] once, when it loads the model."""
        if weight.values is not None:
            return self.node("MatMul", x, self._float(self.tensor(name, weight.values.T, weight.bf16), weight))
        rows, columns = weight.shape
        # [blocks, 32, out]: unpacked, it is the right operand of MatMul as it lies.
        codes = self._codes(f"{name}.codes", weight, (1, 2, 0))
        value = self._unpacked(codes, name, weight, lambda s: s.T[:, None, :])
        return self.node("MatMul", x, self.node("Reshape", value, self.constant([columns, rows])))

    def embedding(self, name: str, weight: Weight, ids: str) -> str:
        """Rows of W [vocabulary, hidden] by token id. Codes of 8 bits are unpacked row by row, as they are wanted."""
        if weight.values is not None:
            return self._float(self.node("Gather", self.tensor(name, weight.values, weight.bf16), ids), weight)
        if weight.bits == 4:
            return self.node("Gather", self.matrix(name, weight), ids)
        codes = self.node("Gather", self._codes(f"{name}.codes", weight, (0, 1, 2)), ids)
        scale = self.node("Gather", self.tensor(f"{name}.scale", weight.scale[..., None]), ids)
        value = self.node("Mul", self._cast(codes), self._cast(scale))
        return self.node("Reshape", value, self.constant([0, 0, weight.shape[1]]))

    def matrix(self, name: str, weight: Weight) -> str:
        """W [rows, columns] unpacked as it stands, of what `embedding` has stored."""
        if name in self._matrices:
            return self._matrices[name]
        if weight.values is not None:
            value = self._float(self.tensor(name, weight.values, weight.bf16), weight)
        else:
            codes = self._codes(f"{name}.codes", weight, (0, 1, 2))
            value = self._unpacked(codes, name, weight, lambda s: s[..., None])
            value = self.node("Reshape", value, self.constant(list(weight.shape)))
        self._matrices[name] = value
        return value

    def model(self, name: str, metadata: dict[str, str]) -> ModelProto:
        """The finished model. Raises ValueError when its weights are more than one ONNX file can hold."""
        size = sum(len(tensor.raw_data) for tensor in self._initializers.values())
        if size > _LIMIT:
            raise ValueError(f"Cannot write {name}.onnx: {size} bytes of weights, expected at most {_LIMIT}")
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        if any(n.domain == MICROSOFT for n in self._nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="kvz")
        helper.set_model_props(model, metadata)
        return model

    def _unpacked(self, codes: str, name: str, weight: Weight, spread: Callable[[np.ndarray], np.ndarray]) -> str:
        """code · scale + shift in binary32, as ggml computes it; `spread` lays the scales out beside the codes."""
        value = self.node("Mul", self._cast(codes), self._cast(self.tensor(f"{name}.scale", spread(weight.scale))))
        if weight.shift is None:
            return value
        return self.node("Add", value, self._cast(self.tensor(f"{name}.shift", spread(weight.shift))))

    def _codes(self, name: str, weight: Weight, axes: tuple[int, int, int]) -> str:
        if name in self._initializers:
            return name
        codes = weight.codes.transpose(axes)
        if weight.bits == 8:
            return self.tensor(name, codes)
        # Two codes a byte, the first in the low half; a block has 32, so no half is left over.
        halves = codes.reshape(-1).view(np.uint8) & 15
        kind = TensorProto.INT4 if codes.dtype == np.int8 else TensorProto.UINT4
        packed = (halves[::2] | (halves[1::2] << 4)).tobytes()
        self._initializers[name] = helper.make_tensor(name, kind, codes.shape, packed, raw=True)
        return name

    def _float(self, x: str, weight: Weight) -> str:
        return x if weight.values.dtype == np.float32 else self._cast(x)

    def _cast(self, x: str) -> str:
        return self.node("Cast", x, to=TensorProto.FLOAT)

    def _fresh(self, op: str) -> str:
        self._count += 1
        return f"{op}_{self._count}"
