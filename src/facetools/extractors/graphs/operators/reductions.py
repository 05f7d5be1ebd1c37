"""Operators that reduce axes: sums, norms, extremes, normalised exponentials."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from facetools.extractors.graphs.operators.registry import Node, axes_of, axis_in, integers, operator, refuse


def _product(x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis)
    return x


# Each reduces all of its axes and keeps none.
_REDUCTIONS: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
    "ReduceL1": lambda x, axes: x.abs().sum(axes),
    "ReduceL2": lambda x, axes: torch.linalg.vector_norm(x, dim=axes),
    "ReduceLogSum": lambda x, axes: x.sum(axes).log(),
    "ReduceLogSumExp": lambda x, axes: x.logsumexp(axes),
    "ReduceMax": lambda x, axes: x.amax(axes),
    "ReduceMean": lambda x, axes: x.mean(axes),
    "ReduceMin": lambda x, axes: x.amin(axes),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes: x.sum(axes),
    "ReduceSumSquare": lambda x, axes: x.square().sum(axes),
}


@operator(*_REDUCTIONS, attributes="axes keepdims noop_with_empty_axes")
def _reduce(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    function = _REDUCTIONS[node.operator]
    axes = axes_of(node, given, x.ndim)
    if not axes and node.get("noop_with_empty_axes", 0):
        # Nothing is summed, and what is done to each number is: over an axis of one, both hold.
        return function(x.unsqueeze(-1), [x.ndim]).to(x.dtype)
    axes = sorted(axes or range(x.ndim))
    if x.ndim:
        reduced = function(x, axes)
    else:
        reduced, axes = function(x.reshape(1), [0]), []
    if node.get("keepdims", 1):
        for axis in axes:
            reduced = reduced.unsqueeze(axis)
    return reduced.to(x.dtype)


@operator("ArgMax", "ArgMin", attributes="axis keepdims select_last_index")
def _extreme(node: Node, x: Tensor) -> Tensor:
    axis, keep = axis_in(node, node.get("axis", 0), x.ndim), bool(node.get("keepdims", 1))
    find = torch.argmax if node.operator == "ArgMax" else torch.argmin
    if node.get("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


@operator("TopK", attributes="axis largest sorted")
def _top(node: Node, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    if node.opset < 10:
        raise refuse(node, "as an attribute, k is not read")
    (count,) = integers(k)
    axis = axis_in(node, node.get("axis", -1), x.ndim)
    # Stable: among equals, the first comes first. Where no order is asked for, this one is as good as any.
    values, places = torch.sort(x, dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


@operator("CumSum", attributes="exclusive reverse")
def _running_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    (number,) = integers(axis)
    number = axis_in(node, number, x.ndim)
    x = x.flip(number) if node.get("reverse", 0) else x
    sums = x.cumsum(number) - x if node.get("exclusive", 0) else x.cumsum(number)
    return (sums.flip(number) if node.get("reverse", 0) else sums).to(x.dtype)


@operator("Softmax", "LogSoftmax", attributes="axis")
def _softmax(node: Node, x: Tensor) -> Tensor:
    function = torch.softmax if node.operator == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, axis_in(node, node.get("axis", -1), x.ndim))
    # Before, the axis and all behind it were one.
    axis = axis_in(node, node.get("axis", 1), x.ndim)
    return function(x.flatten(axis), axis).reshape(x.shape)
