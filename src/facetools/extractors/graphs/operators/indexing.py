"""Operators that read and write at indices."""

from __future__ import annotations

import torch
from torch import Tensor

from facetools.extractors.graphs.operators.registry import Node, axis_in, operator, refuse, require, together


def _positive(node: Node, indices: Tensor, side: int) -> Tensor:
    """Return indices, which may count from the end, as 0 to ``side`` - 1."""
    indices = indices.long()
    # Those that the graph computes from chips may lie on a device that would have to be waited for.
    if indices.device.type == "cpu" and bool(((indices < -side) | (indices >= side)).any()):
        raise refuse(node, f"an index lies outside {side} places")
    return torch.where(indices < 0, indices + side, indices)


def _places(node: Node, x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    """Return the indices of each of the first axes."""
    return tuple(
        _positive(node, each, side).to(x.device) for each, side in zip(indices.unbind(-1), x.shape, strict=False)
    )


@operator("Gather", attributes="axis")
def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = axis_in(node, node.get("axis", 0), x.ndim)
    x, places = together(x, _positive(node, indices, x.shape[axis]))
    rows = x.index_select(axis, places.reshape(-1))
    return rows.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@operator("GatherElements", attributes="axis")
def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = axis_in(node, node.get("axis", 0), x.ndim)
    x, places = together(x, _positive(node, indices, x.shape[axis]))
    return torch.gather(x, axis, places)


@operator("GatherND", attributes="batch_dims")
def _gather_places(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    require(node, "batch_dims", 0)
    return x[_places(node, x, indices)]


@operator("ScatterND", attributes="reduction")
def _scatter_places(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    added = require(node, "reduction", "none", "add") == "add"
    x, updates = together(x, updates)
    return x.index_put(_places(node, x, indices), updates, accumulate=added)


@operator("Scatter", "ScatterElements", attributes="axis reduction")
def _scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    added = require(node, "reduction", "none", "add") == "add"
    axis = axis_in(node, node.get("axis", 0), x.ndim)
    x, places, updates = together(x, _positive(node, indices, x.shape[axis]), updates)
    return x.scatter_add(axis, places, updates) if added else x.scatter(axis, places, updates)
