"""Any ONNX graph that turns chips into embeddings, run and differentiated by PyTorch (https://onnx.ai)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from _toolio.errors import ToolError
from facetools.extractors.settings import Settings

SETTINGS = Settings((112, 112), "arcface-112")
REQUIRES = ("onnx", "onnx2torch")

TUNED = "tuned."
"""Prefix of the names of fine-tuned weights, which override those of the graph."""

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_STANDARD = ("", "ai.onnx")


class OnnxNetwork(nn.Module):
    """A converted graph with the interface of all extractors.

    Parameters
    ----------
    graph
        What onnx2torch made.
    channels_last
        The graph wants [B, height, width, 3].
    one_by_one
        The graph works on a single chip; a batch is taken apart.
    """

    def __init__(self, graph: nn.Module, *, channels_last: bool, one_by_one: bool) -> None:
        super().__init__()
        self.graph = graph
        self._channels_last, self._one_by_one = channels_last, one_by_one

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, height, width]: float32 [B, D], as the graph computes them."""
        if self._channels_last:
            x = x.permute(0, 2, 3, 1)
        parts = torch.split(x, 1) if self._one_by_one else (x,)
        # A GraphModule's own call prints where in its code an error came from.
        rows = [self.graph.forward(part) for part in parts]
        if any(sum(side > 1 for side in row.shape[row.ndim > 1 :]) > 1 for row in rows):
            raise ValueError(f"its output is {list(rows[0].shape)}, not one row of numbers a chip")
        return torch.cat([row.reshape(len(part), -1) for part, row in zip(parts, rows, strict=True)])


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
    """Build the network from ``graph``, the bytes of an ONNX file as uint8 [N].

    Tensors whose names begin with ``TUNED`` override its weights. ``options`` are those of :func:`options_of`, which
    is called where they are missing.

    Raises
    ------
    ValueError
        It is not an ONNX file, or one that cannot be run: its weights lie in other files, or it has branches, loops,
        custom operators or operators that onnx2torch does not know.
    ToolError
        The packages of the extra ``onnx`` are not installed.
    """
    model = _parse(state)
    options = options or options_of(state, settings_of(state, {}))
    built = _build(model, one_by_one=bool(options["one_by_one"]))
    if given := {key.removeprefix(TUNED): value for key, value in state.items() if key.startswith(TUNED)}:
        own = {key: value for key, value in built.state_dict().items() if key not in given}
        built.load_state_dict({**own, **given})
    return built


def tuned(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to save of a network built from ``state`` and then fine-tuned: graph and new weights."""
    weights = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    return {"graph": state["graph"], **{f"{TUNED}{key}": value for key, value in weights.items()}}


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they are: there is one, and it has one name."""
    return dict(state)


def settings_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Settings:  # noqa: ARG001
    """Return the usual settings with the size of chips that the graph was exported for, if it is fixed."""
    _, height, width = _input_shape(_parse(state))
    return SETTINGS if height is None or width is None else Settings((height, width), SETTINGS.alignment)


def options_of(state: Mapping[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Test by running the graph whether it accepts batches once fixed sizes are freed.

    Exporters write the batch of their example, mostly 1, into the input and into reshapes. These are freed here.
    ``one_by_one`` is true where two chips together then have other embeddings than each alone, or fail.
    """
    model = _parse(state)
    chips = torch.rand(2, 3, *settings.input_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        try:
            apart = _build(model, one_by_one=True)(chips)
        except (RuntimeError, IndexError, TypeError) as error:
            height, width = settings.input_size
            raise ValueError(f"it does not run on chips of {height}x{width}: {_first_line(error)}") from None
        try:
            together = _build(model, one_by_one=False)(chips)
        except (RuntimeError, IndexError, TypeError, ValueError):
            return {"one_by_one": True}
    same = together.shape == apart.shape and bool((together - apart).abs().max() <= 1e-4 * apart.abs().max())
    return {"one_by_one": not same}


def _build(model: Any, *, one_by_one: bool) -> OnnxNetwork:
    from onnx2torch import convert

    channels_last = _is_channels_last(model)
    model = model if one_by_one else _with_any_batch(model)
    try:
        graph = convert(model).eval()
    except Exception as error:  # a converter of any operator may fail in its own way
        raise ValueError(f"onnx2torch cannot convert it: {_first_line(error)}") from None
    return OnnxNetwork(graph, channels_last=channels_last, one_by_one=one_by_one)


def _parse(state: Mapping[str, Tensor]) -> Any:
    """Parse the model, refuse what cannot be run, and replace all names in it."""
    graph = state.get("graph")
    others = [key for key in state if key != "graph" and not key.startswith(TUNED)]
    if graph is None or graph.dtype != torch.uint8 or others:
        raise ValueError("no graph, or more than a graph, which is all that an ONNX file is")
    try:
        import onnx
        import onnx2torch  # noqa: F401
        from google.protobuf.message import DecodeError
    except ImportError as error:
        what = f"ONNX files need the package {error.name}"
        raise ToolError(f"{what}; try pip install 'epsilon-tools[onnx]'", kind="missing-package") from None
    model: Any = onnx.ModelProto()
    try:
        model.ParseFromString(graph.cpu().numpy().tobytes())
    except DecodeError:
        raise ValueError("it is no ONNX file, or cut short") from None
    if not model.graph.node:
        raise ValueError("it is no ONNX file, or one without a graph")
    _refuse(model, onnx.TensorProto)
    _rename(model)
    _check_interface(model, onnx.TensorProto)
    return model


def _refuse(model: Any, tensor_proto: Any) -> None:
    if model.functions or any(node.domain not in _STANDARD for node in model.graph.node):
        names = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _STANDARD})
        raise ValueError(f"it has operators of somebody's own ({', '.join(names[:3]) or 'functions'})")
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    flow = sorted({node.op_type for node in model.graph.node} & _CONTROL_FLOW)
    if flow or any(attribute.HasField("g") or attribute.graphs for attribute in attributes):
        raise ValueError(f"it has branches or loops ({', '.join(flow) or 'graphs inside nodes'})")
    tensors = [*model.graph.initializer, *(each.t for each in attributes if each.HasField("t"))]
    if any(tensor.data_location == tensor_proto.EXTERNAL for tensor in tensors):
        raise ValueError("its weights lie in another file; save it as one file")
    if model.graph.sparse_initializer:
        raise ValueError("it has sparse weights")


def _rename(model: Any) -> None:
    """Rename all nodes and values to numbers: torch.fx writes names into code that it then runs."""
    numbers: dict[str, str] = {"": ""}
    graph = model.graph
    for number, node in enumerate(graph.node):
        node.name, node.domain = f"node_{number}", ""
        for names in (node.input, node.output):
            names[:] = [numbers.setdefault(name, f"value_{len(numbers)}") for name in names]
    for named in (*graph.initializer, *graph.input, *graph.output):
        named.name = numbers.setdefault(named.name, f"value_{len(numbers)}")
    graph.name = "graph"
    del graph.value_info[:]  # shapes that hold for the exporter's batch only
    for opset in model.opset_import:
        opset.domain = "" if opset.domain in _STANDARD else opset.domain


def _inputs(model: Any) -> list[Any]:
    # Before version 4 of the format every weight is an input too.
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _check_interface(model: Any, tensor_proto: Any) -> None:
    inputs, outputs = _inputs(model), model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one each")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != tensor_proto.FLOAT:
        raise ValueError("its input is not float32")
    sides = [side.dim_value or None for side in kind.shape.dim]
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise ValueError(f"its input is {_shown(sides)}, not [B, 3, height, width] or [B, height, width, 3]")
    if (sides[0] or 1) != 1:
        raise ValueError(f"its batch is fixed to {sides[0]}; export it with a batch of 1 or of any size")


def _is_channels_last(model: Any) -> bool:
    sides = [side.dim_value for side in _inputs(model)[0].type.tensor_type.shape.dim]
    return bool(sides[1] != 3)


def _input_shape(model: Any) -> tuple[int | None, int | None, int | None]:
    """Return batch, height and width of the input; None where any size is accepted."""
    sides = [side.dim_value or None for side in _inputs(model)[0].type.tensor_type.shape.dim]
    first = 1 if _is_channels_last(model) else 2
    return sides[0], sides[first], sides[first + 1]


def _with_any_batch(model: Any) -> Any:
    """Free the batch where the exporter fixed it: in the input, in the output and in reshapes to one row."""
    import onnx

    if _input_shape(model)[0] is None:
        return model
    model = copy.deepcopy(model)
    graph = model.graph
    for value in (*_inputs(model), *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    constants = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].HasField("t")]
    shapes |= {node.output[0]: node.attribute[0].t for node in constants}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in shapes:
            continue
        first, *rest = onnx.numpy_helper.to_array(shapes[node.input[1]]).tolist() or [0]
        if first == 1 and rest:
            # One size may be left to the reshape (-1); where that is taken, 0 copies the size that comes in.
            free = onnx.helper.make_tensor(f"free_{number}", onnx.TensorProto.INT64, [1 + len(rest)], [
                0 if -1 in rest else -1, *rest,
            ])  # fmt: skip
            graph.initializer.append(free)
            node.input[1] = free.name
    return model


def _shown(sides: list[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in sides) or "of no known shape"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
