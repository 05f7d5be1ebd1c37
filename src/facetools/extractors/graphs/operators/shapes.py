"""Operators that change the shape of a tensor, or make one from a shape."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facetools.extractors.graphs.operators.registry import (
    MOST_VALUES,
    Node,
    axes_of,
    axis_in,
    bounded,
    integers,
    operator,
    refuse,
    require,
    together,
)


@operator("Shape", attributes="start end")
def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[slice(node.get("start", 0), node.get("end"))], dtype=torch.int64)


@operator("Size")
def _size(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    return torch.tensor(x.numel())


@operator("Reshape", attributes="allowzero")
def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sides = integers(shape)
    if not node.get("allowzero", 0):
        if any(side == 0 and place >= x.ndim for place, side in enumerate(sides)):
            raise refuse(node, f"{sides} copies a side that {list(x.shape)} does not have")
        sides = [x.shape[place] if side == 0 else side for place, side in enumerate(sides)]
    return x.reshape(sides)


@operator("Flatten", attributes="axis")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise refuse(node, f"it has no axis {axis} of {x.ndim}")
    rows = math.prod(x.shape[: axis + x.ndim if axis < 0 else axis])
    return x.reshape(rows, x.numel() // max(rows, 1))


@operator("Transpose", attributes="perm")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.ints("perm", range(x.ndim)[::-1]))


@operator("Squeeze", attributes="axes")
def _squeeze(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = axes_of(node, given, x.ndim)
    if axes is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in axes):
        raise refuse(node, f"axes {axes} of {list(x.shape)} are not all of size 1")
    return x.squeeze(axes)


@operator("Unsqueeze", attributes="axes")
def _unsqueeze(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    count = len(integers(given)) if given is not None else len(node.get("axes", ()))
    for axis in sorted(axes_of(node, given, x.ndim + count) or ()):
        x = x.unsqueeze(axis)
    return x


@operator("Concat", attributes="axis")
def _concat(node: Node, *tensors: Tensor) -> Tensor:
    return torch.cat(together(*tensors), node.get("axis", 1))


@operator("Split", attributes="axis split num_outputs")
def _split(node: Node, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = axis_in(node, node.get("axis", 0), x.ndim)
    sizes = integers(given) if given is not None else node.get("split")
    if sizes is None:
        count = node.get("num_outputs", len(node.outputs))
        size = -(-x.shape[axis] // count)  # the last one is smaller where they cannot be equal
        sizes = [min(size, x.shape[axis] - size * place) for place in range(count)]
    return torch.split(x, list(sizes), axis)


@operator("SplitToSequence", attributes="axis keepdims")
def _split_to_sequence(node: Node, x: Tensor, given: Tensor | None = None) -> list[Tensor]:
    axis = axis_in(node, node.get("axis", 0), x.ndim)
    if given is None:
        return [part if node.get("keepdims", 1) else part.squeeze(axis) for part in torch.split(x, 1, axis)]
    sizes = integers(given)
    return list(torch.split(x, sizes if given.ndim else sizes[0], axis))


@operator("SequenceConstruct")
def _sequence(node: Node, *tensors: Tensor) -> list[Tensor]:  # noqa: ARG001
    return list(tensors)


@operator("SequenceAt")
def _sequence_at(node: Node, sequence: list[Tensor], place: Tensor) -> Tensor:
    (number,) = integers(place)
    return sequence[axis_in(node, number, len(sequence))]


@operator("ConcatFromSequence", attributes="axis new_axis")
def _concat_sequence(node: Node, sequence: list[Tensor]) -> Tensor:
    return (torch.stack if node.get("new_axis", 0) else torch.cat)(together(*sequence), node.get("axis"))


@operator("Slice", attributes="starts ends axes")
def _slice(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = integers(starts) if starts is not None else node.ints("starts", ())
    last = integers(ends) if ends is not None else node.ints("ends", ())
    places = axes_of(node, axes, x.ndim)
    strides = integers(steps) if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(
        range(len(first)) if places is None else places, first, last, strides, strict=True
    ):
        chosen = range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0:
            x = x[(slice(None),) * axis + (slice(chosen.start, max(chosen.stop, chosen.start), step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=x.device))
    return x


@operator("Expand")
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(bounded(node, np.broadcast_shapes(x.shape, tuple(integers(shape)))))


@operator("Tile")
def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    times = integers(repeats)
    bounded(node, [side * count for side, count in zip(x.shape, times, strict=True)])
    return x.repeat(times)


@operator("ConstantOfShape", attributes="value")
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value")
    value = torch.zeros(1) if value is None else value
    return torch.full(bounded(node, integers(shape)), value.item(), dtype=value.dtype)


@operator("Range", attributes="stash_type")
def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (each.reshape(()).item() for each in (start, limit, delta))
    if not step or abs(last - first) > MOST_VALUES * abs(step):
        raise refuse(node, f"{first} to {last} by {step} is too large")
    places = torch.arange(max(math.ceil((last - first) / step), 0))
    start, delta, places = together(start.reshape(()), delta.reshape(()), places)
    return (start + places * delta).to(start.dtype)


@operator("Trilu", attributes="upper")
def _triangle(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else integers(k)[0]
    return torch.triu(x, diagonal) if node.get("upper", 1) else torch.tril(x, diagonal)


@operator("DepthToSpace", attributes="blocksize mode")
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    side = node.get("blocksize")
    if require(node, "mode", "DCR", "CRD") == "CRD":
        return F.pixel_shuffle(x, side)
    batch, channels, height, width = x.shape
    x = x.reshape(batch, side, side, channels // side**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(batch, channels // side**2, height * side, width * side)


@operator("SpaceToDepth", attributes="blocksize mode")
def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    require(node, "mode", "DCR")
    side = node.get("blocksize")
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // side, side, width // side, side).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(batch, channels * side**2, height // side, width // side)


@operator("Pad", attributes="mode pads value")
def _pad(
    node: Node, x: Tensor, given: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    mode = require(node, "mode", "constant", "reflect", "edge", "wrap")
    pads = integers(given) if given is not None else node.ints("pads", ())
    places = list(range(x.ndim)) if axes is None else axes_of(node, axes, x.ndim)
    if places is None or len(pads) != 2 * len(places):
        raise refuse(node, f"{len(pads)} pads do not fit its axes")
    widths = {axis: (pads[place], pads[place + len(places)]) for place, axis in enumerate(places)}
    bounded(node, [side + sum(widths.get(axis, (0, 0))) for axis, side in enumerate(x.shape)])
    if mode == "constant":
        number = node.get("value", 0.0) if value is None else value.item()
        ordered = [width for axis in reversed(range(x.ndim)) for width in widths.get(axis, (0, 0))]
        return F.pad(x, ordered, value=number)
    for axis, (before, behind) in widths.items():
        if before or behind:
            places_of = torch.arange(-before, x.shape[axis] + behind)
            x = x.index_select(axis, _inside(places_of, x.shape[axis], mode).to(x.device))
    return x


def _inside(places: Tensor, side: int, mode: str) -> Tensor:
    """Return the places within a side that places beyond it repeat."""
    if mode == "edge":
        return places.clamp(0, side - 1)
    if mode == "wrap":
        return places.remainder(side)
    period = max(2 * (side - 1), 1)
    places = places.remainder(period)
    return torch.minimum(places, period - places) if side > 1 else places
