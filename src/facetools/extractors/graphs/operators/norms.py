"""Normalisations, as they are in inference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facetools.extractors.graphs.operators.registry import Node, axis_in, operator, refuse, require

_EPSILON = 1e-5


@operator("BatchNormalization", attributes="epsilon momentum spatial training_mode")
def _batch(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0) or len(node.outputs) > 1:
        raise refuse(node, "it is in training mode; export the network in eval mode")
    require(node, "spatial", 1)
    return F.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", _EPSILON))


@operator("InstanceNormalization", attributes="epsilon")
def _instance(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", _EPSILON))


@operator("GroupNormalization", attributes="epsilon num_groups stash_type")
def _group(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if node.opset < 21:  # one scale and one bias a group
        scale, bias = (each.repeat_interleave(x.shape[1] // groups) for each in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", _EPSILON))


@operator("LayerNormalization", attributes="axis epsilon stash_type")
def _layer(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    sides = x.shape[axis_in(node, node.get("axis", -1), x.ndim) :]
    epsilon = node.get("epsilon", _EPSILON)
    if scale.shape == sides and (bias is None or bias.shape == sides):
        return F.layer_norm(x, sides, scale, bias, epsilon)
    normal = F.layer_norm(x, sides, eps=epsilon) * scale
    return normal if bias is None else normal + bias


@operator("RMSNormalization", attributes="axis epsilon stash_type")
def _root_mean_square(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(axis_in(node, node.get("axis", -1), x.ndim), x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + node.get("epsilon", _EPSILON)) * scale


@operator("MeanVarianceNormalization", attributes="axes")
def _mean_variance(node: Node, x: Tensor) -> Tensor:
    axes = node.ints("axes", (0, 2, 3))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@operator("LpNormalization", attributes="axis p")
def _unit(node: Node, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, require(node, "p", 2, 1), node.get("axis", -1), keepdim=True)
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)


@operator("LRN", attributes="alpha beta bias size")
def _local_response(node: Node, x: Tensor) -> Tensor:
    size = node.get("size")
    squares = F.pad(x.square().movedim(1, -1), ((size - 1) // 2, size // 2)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    alpha, beta, bias = (float(node.get(*each)) for each in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return x * torch.pow(bias + alpha / size * squares, -beta)
