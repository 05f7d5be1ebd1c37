"""Parse ONNX models; refuse what is no network from one chip to one embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from facetools.extractors.graphs.operators.registry import NEWEST, OLDEST
from facetools.extractors.graphs.package import import_onnx

SAFE_OPSET = 18
"""The opset that exporters of all ages write and that is read in full."""

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_STANDARD = ("", "ai.onnx")
_HALVES = (10, 16)
_FLOAT = 1

# Bytes a number of the types that are read, by the format's numbers.
_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def read_model(data: bytes) -> Any:
    """Parse a model.

    Nodes that its output does not need are left out. Numbers of half precision become float32, as the network is
    computed in float32.

    Parameters
    ----------
    data
        Bytes of an ONNX file with its weights in it.

    Raises
    ------
    ValueError
        It is not an ONNX file, or one that cannot be run.
    ToolError
        The package onnx is not installed.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    model: Any = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ValueError("it is no ONNX file, or cut short") from None
    if not model.graph.node:
        raise ValueError("it is no ONNX file, or one without a graph")
    _refuse(model, onnx.TensorProto)
    opset_of(model)
    _check_interface(model)
    _prune(model)
    _widen(model)
    return model


def opset_of(model: Any) -> int:
    """Return the version of a model's operator set; ValueError for those that are not read."""
    found = [int(each.version) for each in model.opset_import if each.domain in _STANDARD]
    if not found:
        raise ValueError(f"it does not name its opset; export with opset {SAFE_OPSET}")
    if not OLDEST <= found[0] <= NEWEST or len(set(found)) > 1:
        raise ValueError(f"it is of opset {found[0]}; {OLDEST} to {NEWEST} are read: export with opset {SAFE_OPSET}")
    return found[0]


def array_of(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor of a model as an array; ValueError where its size and its data disagree."""
    onnx = import_onnx()
    sides = list(tensor.dims)
    if tensor.data_type not in _WIDTHS:
        raise ValueError(f"it has weights of type {_type_name(tensor.data_type)}, which is not read")
    size = _WIDTHS[tensor.data_type] * math.prod(sides)
    if min(sides, default=0) < 0 or (tensor.HasField("raw_data") and len(tensor.raw_data) != size):
        raise ValueError(f"it has weights of {'x'.join(map(str, sides))} that are not there; copy it again")
    try:
        array: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        raise ValueError(f"it has weights of {'x'.join(map(str, sides))} that are not there; copy it again") from None
    return array.astype(np.float32) if tensor.data_type in _HALVES else array


def chips_of(model: Any) -> Any:
    """Return the description of the model's input; its only one, :func:`read_model` has checked."""
    return _inputs(model)[0]


def sides_of(model: Any) -> list[int | None]:
    """Return the four sizes of the input; None where any is accepted."""
    return [side.dim_value if side.dim_value > 0 else None for side in chips_of(model).type.tensor_type.shape.dim]


def _inputs(model: Any) -> list[Any]:
    # Before version 4 of the format every weight is an input too.
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _refuse(model: Any, tensor_proto: Any) -> None:
    if model.functions or any(node.domain not in _STANDARD for node in model.graph.node):
        names = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _STANDARD})
        what = f"it has operators of somebody's own ({', '.join(names[:3]) or 'functions'})"
        raise ValueError(f"{what}; export the network itself with opset {SAFE_OPSET}, not optimised for a runtime")
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    flow = sorted({node.op_type for node in model.graph.node} & _CONTROL_FLOW)
    if flow or any(attribute.HasField("g") or attribute.graphs for attribute in attributes):
        raise ValueError(f"it has branches or loops ({', '.join(flow) or 'graphs inside nodes'})")
    if any(tensor.data_location == tensor_proto.EXTERNAL for tensor in _tensors(model)):
        raise ValueError("its weights lie in another file; save it as one file")
    if model.graph.sparse_initializer:
        raise ValueError("it has sparse weights")


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _check_interface(model: Any) -> None:
    inputs, outputs = _inputs(model), model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one each")
    kind = inputs[0].type.tensor_type
    half = kind.elem_type in _HALVES and any(tensor.data_type == kind.elem_type for tensor in _tensors(model))
    if kind.elem_type != _FLOAT and not half:
        raise ValueError(f"its input is {_type_name(kind.elem_type)}, not float32 or what its weights are")
    sides = sides_of(model)
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise ValueError(f"its input is {_shown(sides)}, not [B, 3, height, width] or [B, height, width, 3]")
    if (sides[0] or 1) != 1:
        raise ValueError(f"its batch is fixed to {sides[0]}; export it with a batch of 1 or of any size")


def _prune(model: Any) -> None:
    needed, kept = {model.graph.output[0].name}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = list(kept[::-1])
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _widen(model: Any) -> None:
    """Make every number of half precision one of float32, which holds each of them exactly."""
    onnx = import_onnx()
    for tensor in _tensors(model):
        if tensor.data_type in _HALVES:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array_of(tensor), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALVES:
                attribute.i = _FLOAT
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = _FLOAT
    del model.graph.value_info[:]  # types before this, and shapes that hold for the exporter's batch only


def _type_name(number: int) -> str:
    names: dict[int, str] = {value: name for name, value in import_onnx().TensorProto.DataType.items()}
    return names.get(number, str(number)).lower()


def _shown(sides: list[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in sides) or "of no known shape"
