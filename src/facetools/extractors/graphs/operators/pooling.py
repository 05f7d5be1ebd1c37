"""Pooling: averages and maxima over windows or over all places."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facetools.extractors.graphs.operators.layers import padded, pads_of
from facetools.extractors.graphs.operators.registry import Node, operator, refuse, require

_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@operator("GlobalAveragePool")
def _global_average(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def _global_maximum(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    return x.amax(list(range(2, x.ndim)), keepdim=True)


@operator("AveragePool", attributes="auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides")
def _average(node: Node, x: Tensor) -> Tensor:
    count = x.ndim - 2
    kernel, strides = node.ints("kernel_shape", ()), node.ints("strides", [1] * count)
    if count not in _AVERAGES or len(kernel) != count or set(node.ints("dilations", [1])) != {1}:
        raise refuse(node, f"a window of {kernel}, dilated by {node.ints('dilations', [1] * count)}, is not read")
    pads = pads_of(node, x.shape[2:], kernel, strides)
    ceil = bool(node.get("ceil_mode", 0))
    pool = _AVERAGES[count]
    if all(before == behind for before, behind in pads) and all(
        2 * w[0] <= k for w, k in zip(pads, kernel, strict=True)
    ):
        return pool(x, kernel, strides, [before for before, _ in pads], ceil, bool(node.get("count_include_pad", 0)))
    means = pool(padded(x, pads), kernel, strides, 0, ceil)
    if node.get("count_include_pad", 0):
        return means
    # What was padded counts as zero in the mean; the share of the window that was not divides it out.
    return means / pool(padded(torch.ones_like(x[:1, :1]), pads), kernel, strides, 0, ceil)


@operator("MaxPool", attributes="auto_pad ceil_mode dilations kernel_shape pads storage_order strides")
def _maximum(node: Node, x: Tensor) -> Tensor:
    count = x.ndim - 2
    require(node, "storage_order", 0)
    kernel, strides = node.ints("kernel_shape", ()), node.ints("strides", [1] * count)
    dilations = node.ints("dilations", [1] * count)
    if count not in _MAXIMA or len(kernel) != count:
        raise refuse(node, f"a window of {kernel} on {list(x.shape)} is not read")
    window = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
    pads = pads_of(node, x.shape[2:], window, strides)
    even = all(before == behind and 2 * before <= side for (before, behind), side in zip(pads, kernel, strict=True))
    x = x if even else padded(x, pads, -math.inf)
    return _MAXIMA[count](
        x, kernel, strides, [w for w, _ in pads] if even else 0, dilations, bool(node.get("ceil_mode", 0))
    )
