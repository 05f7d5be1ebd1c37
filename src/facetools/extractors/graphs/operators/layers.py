"""Layers with weights: convolutions, products of matrices, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facetools.extractors.graphs.operators.registry import Node, bounded, operator, refuse, require, together

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def pads_of(node: Node, sides: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return how far a window's input is padded before and behind each axis.

    Parameters
    ----------
    node
        A convolution or a pooling.
    sides
        Sizes of the axes that the window moves along.
    kernel
        Sizes of the window, dilated.
    strides
        Steps of the window.
    """
    count = len(sides)
    mode = require(node, "auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if mode in ("NOTSET", "VALID"):
        pads = node.ints("pads", [0] * 2 * count) if mode == "NOTSET" else [0] * 2 * count
        if len(pads) != 2 * count or min(pads) < 0:
            raise refuse(node, f"pads {pads} are not read")
        return list(zip(pads[:count], pads[count:], strict=True))
    found = []
    for side, window, stride in zip(sides, kernel, strides, strict=True):
        whole = max((math.ceil(side / stride) - 1) * stride + window - side, 0)
        small, large = whole // 2, whole - whole // 2
        found.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return found


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Return a tensor whose last axes are padded by constant values."""
    return F.pad(x, [width for pair in reversed(pads) for width in pair], value=value)


@operator("Conv", attributes="auto_pad dilations group kernel_shape pads strides")
def _convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    count = weight.ndim - 2
    if count not in _CONVOLUTIONS or x.ndim != weight.ndim:
        raise refuse(node, f"{list(weight.shape)} weights on {list(x.shape)} are not read")
    if node.ints("kernel_shape", weight.shape[2:]) != list(weight.shape[2:]):
        raise refuse(node, "its kernel_shape is not that of its weights")
    strides, dilations = (node.ints(name, [1] * count) for name in ("strides", "dilations"))
    kernel = [(side - 1) * step + 1 for side, step in zip(weight.shape[2:], dilations, strict=True)]
    pads = pads_of(node, x.shape[2:], kernel, strides)
    even = all(before == behind for before, behind in pads)
    x = x if even else padded(x, pads)
    sides = [before for before, _ in pads] if even else 0
    return _CONVOLUTIONS[count](x, weight, bias, strides, sides, dilations, node.get("group", 1))


@operator("ConvTranspose", attributes="auto_pad dilations group kernel_shape output_padding pads strides")
def _transposed(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    count = weight.ndim - 2
    require(node, "auto_pad", "NOTSET")
    strides, dilations = (node.ints(name, [1] * count) for name in ("strides", "dilations"))
    more, pads = node.ints("output_padding", [0] * count), node.ints("pads", [0] * 2 * count)
    if count not in _TRANSPOSED or pads[:count] != pads[count:]:
        raise refuse(node, f"pads {pads} are not read")
    return _TRANSPOSED[count](x, weight, bias, strides, pads[:count], more, node.get("group", 1), dilations)


@operator("Gemm", attributes="alpha beta transA transB")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    if a.ndim != 2 or b.ndim != 2:
        raise refuse(node, f"factors of {a.ndim} and {b.ndim} axes are not read")
    a, b = (a.T if node.get("transA", 0) else a), (b.T if node.get("transB", 0) else b)
    if alpha == beta == 1 and c is not None and c.ndim == 1:
        return F.linear(a, b.T, c)
    product = alpha * (a @ b)
    return product if c is None else product + beta * c


@operator("MatMul")
def _product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    a, b = together(a, b)
    bounded(node, [a.numel() // max(a.shape[-1], 1), b.shape[-1] if b.ndim > 1 else 1])
    return torch.matmul(a, b)


@operator("Einsum", attributes="equation")
def _einsum(node: Node, *tensors: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *together(*tensors))


@operator(
    "Attention", attributes="is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision"
)
def _attention(
    node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *cached: Tensor | None
) -> Tensor:
    if any(each is not None for each in cached) or len(node.outputs) > 1:
        raise refuse(node, "its cache of keys and values is not read; export with opset 18")
    require(node, "softcap", 0.0)
    flat = q.ndim == 3
    if flat:
        q, k, v = (
            _heads(node, each, name) for each, name in ((q, "q_num_heads"), (k, "kv_num_heads"), (v, "kv_num_heads"))
        )
    if q.shape[1] % k.shape[1]:
        raise refuse(node, f"{q.shape[1]} heads of queries do not share {k.shape[1]} of keys")
    k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], 1) for each in (k, v))
    scores = q @ k.mT * node.get("scale", q.shape[-1] ** -0.5)
    if node.get("is_causal", 0):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    if mask is not None:
        scores, mask = together(scores, mask)
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    unseen = (scores == -math.inf).all(-1, keepdim=True)  # a query without any key has zeros
    rows = torch.softmax(scores.masked_fill(unseen, 0), -1).masked_fill(unseen, 0) @ v
    return rows.transpose(1, 2).flatten(2) if flat else rows


def _heads(node: Node, x: Tensor, name: str) -> Tensor:
    """Split [B, L, heads * D] into [B, heads, L, D]."""
    heads = node.get(name)
    if not heads or x.shape[2] % heads:
        raise refuse(node, f"{name} {heads} does not divide {x.shape[2]}")
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
