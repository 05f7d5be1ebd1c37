"""A model's nodes and weights, checked and in the order of computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetools.extractors.graphs.model import SAFE_OPSET, array_of, chips_of, opset_of
from facetools.extractors.graphs.operators import OPERATORS, Node
from facetools.extractors.graphs.package import import_onnx

_QUANTIZED = (
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear",
)  # fmt: skip
_UNSIGNED = (np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a network computes.

    Attributes
    ----------
    nodes
        In an order in which each finds its inputs.
    weights
        Tensors by name: the model's weights (``weight_0``, numbered as in the file) and its constants.
    chips
        Name of the input.
    embedding
        Name of the output.
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Tensor]
    chips: str
    embedding: str

    @staticmethod
    def of(model: Any) -> Graph:
        """Return the graph of a model of :func:`read_model`.

        No name of the file is kept: all are numbered.

        Raises
        ------
        ValueError
            Its nodes are in a circle or in no order, a value is computed twice, or it has an operator, or an attribute
            of one, that is not read.
        """
        names = {"": "", chips_of(model).name: "chips"}
        weights = {f"weight_{number}": tensor for number, tensor in enumerate(model.graph.initializer)}
        for name, tensor in weights.items():
            names[_new(tensor.name, names)] = name
        values = {name: _tensor(array_of(tensor)) for name, tensor in weights.items()}
        opset, nodes = opset_of(model), []
        for number, proto in enumerate(model.graph.node):
            if unknown := [name for name in proto.input if name not in names]:
                raise ValueError(f"its nodes are in a circle or out of order: {unknown[0][:40]!r} comes from nowhere")
            inputs = tuple(names[name] for name in proto.input)
            outputs = []
            for place, name in enumerate(proto.output):
                new = f"value_{number}_{place}" if name else ""
                if name:
                    names[_new(name, names)] = new
                outputs.append(new)
            while outputs and not outputs[-1]:
                outputs.pop()
            node = Node(proto.op_type, opset, _attributes(proto), inputs, tuple(outputs))
            if node.operator == "Constant" and len(outputs) == 1:
                values[outputs[0]] = _constant(node)
            else:
                _check(node)
                nodes.append(node)
        output = model.graph.output[0].name
        if output not in names:
            raise ValueError("nothing in it computes its output")
        needed = {names[output], *(name for node in nodes for name in node.inputs)}
        weights = {name: value for name, value in values.items() if name in needed}
        return Graph(tuple(nodes), weights, "chips", names[output])

    def with_any_batch(self) -> Graph:
        """Return the graph with reshapes of what comes from the chips to one row freed to any number of rows."""
        nodes, weights, varying = [], dict(self.weights), {self.chips}
        for number, node in enumerate(self.nodes):
            if varying.intersection(node.inputs):
                varying.update(node.outputs)
            if node.operator == "Reshape" and node.inputs[0] in varying and node.inputs[1] in self.weights:
                first, *rest = self.weights[node.inputs[1]].reshape(-1).tolist() or [0]
                if first == 1 and rest and 0 not in rest:
                    # One size may be left to the reshape (-1); where that is taken, 0 copies the size that comes in.
                    free = [0 if -1 in rest else -1, *rest]
                    weights[f"free_{number}"] = torch.tensor(free)
                    node = replace(node, inputs=(node.inputs[0], f"free_{number}"), attributes={})
            nodes.append(node)
        return replace(self, nodes=tuple(nodes), weights=weights)


def _new(name: str, names: Mapping[str, str]) -> str:
    if name in names:
        raise ValueError(f"it computes {name[:40]!r} twice")
    return name


def _attributes(proto: Any) -> dict[str, Any]:
    onnx = import_onnx()
    found: dict[str, Any] = {}
    for attribute in proto.attribute:
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError:
            value = None
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found[attribute.name] = _tensor(array_of(value)) if isinstance(value, onnx.TensorProto) else value
    return found


def _constant(node: Node) -> Tensor:
    for name, value in node.attributes.items():
        if isinstance(value, Tensor):
            return value
        if name in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.float32)
        if name in ("value_int", "value_ints"):
            return torch.tensor(value, dtype=torch.int64)
    raise ValueError(f"it has a constant of no number ({', '.join(node.attributes) or 'empty'})")


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype in _UNSIGNED:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C"))


def _check(node: Node) -> None:
    what = f"cannot convert its operator {node.operator} (opset {node.opset})"
    known = OPERATORS.get(node.operator)
    if known is None:
        raise ValueError(f"{what}{_advice(node.operator)}")
    for name in node.attributes:
        if name not in known.attributes:
            raise ValueError(f"{what} with {name[:40]!r}{_advice(node.operator, name)}")


def _advice(operator: str, attribute: str | None = None) -> str:
    """Return what to try: an older opset, where only newer ones have the operator or its attribute."""
    onnx = import_onnx()

    def known(*opset: int) -> bool:
        schema = onnx.defs.get_schema(operator, *opset) if onnx.defs.has(operator, *opset) else None
        return schema is not None and (attribute is None or attribute in schema.attributes)

    if operator in _QUANTIZED:
        return "; export the network before it is quantised"
    if known(SAFE_OPSET):
        return "; export the network only as far as its embedding"
    unknown = "" if known() else f", which onnx {onnx.__version__} does not know"
    return f"{unknown}; export with opset {SAFE_OPSET}"
