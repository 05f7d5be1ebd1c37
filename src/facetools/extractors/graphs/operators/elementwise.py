"""Operators that work on each number by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facetools.extractors.graphs.operators.registry import Node, broadcast, operator, refuse, require, together

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh,
    "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan,
    "Log": torch.log, "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan,
    "Tanh": torch.tanh,
}  # fmt: skip

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "And": torch.logical_and, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul, "Or": torch.logical_or, "Sub": torch.sub,
    "Xor": torch.logical_xor,
}  # fmt: skip

_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float32, 11: torch.float64, 16: torch.float32,
}  # fmt: skip
"""Types of the format by number. Half precision, 10 and 16, is computed in float32."""


@operator(*_UNARY)
def _unary(node: Node, x: Tensor) -> Tensor:
    return _UNARY[node.operator](x)


@operator(*_BINARY)
def _binary(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _BINARY[node.operator](*broadcast(node, a, b))


@operator("Identity")
def _identity(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    return x


@operator("Dropout", attributes="ratio seed")
def _dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> tuple[Tensor, ...]:  # noqa: ARG001
    if training is not None and bool(training):
        raise refuse(node, "it drops at random; export the network in eval mode")
    return (x, torch.ones_like(x, dtype=torch.bool)) if len(node.outputs) > 1 else (x,)


@operator("Div")
def _divide(node: Node, a: Tensor, b: Tensor) -> Tensor:
    a, b = broadcast(node, a, b)
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod", attributes="fmod")
def _modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return (torch.fmod if node.get("fmod", 0) else torch.remainder)(*broadcast(node, a, b))


@operator("Pow")
def _power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    x, exponent = broadcast(node, x, exponent)
    return torch.pow(x, exponent).to(x.dtype)


@operator("Max")
def _maximum(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.maximum, broadcast(node, *tensors))


@operator("Min")
def _minimum(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.minimum, broadcast(node, *tensors))


@operator("Sum")
def _sum(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, broadcast(node, *tensors))


@operator("Mean")
def _mean(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, broadcast(node, *tensors)) / len(tensors)


@operator("Where")
def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    condition, a, b = broadcast(node, condition, a, b)
    return torch.where(condition, a, b)


@operator("Clip", attributes="min max")
def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if node.opset < 11:  # numbers, with the ends of float32 where none is given
        return torch.clamp(x, node.get("min", torch.finfo(x.dtype).min), node.get("max", torch.finfo(x.dtype).max))
    low, high = (None if each is None else each.to(x) for each in (low, high))
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("Cast", attributes="to saturate round_mode")
def _cast(node: Node, x: Tensor) -> Tensor:
    if node.get("to") not in _DTYPES:
        raise refuse(node, f"to type {node.get('to')} is not read")
    return x.to(_DTYPES[node.get("to")])


@operator("CastLike", attributes="saturate round_mode")
def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:  # noqa: ARG001
    return x.to(like.dtype)


@operator("PRelu")
def _parametric_relu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    x, slope = together(x, slope)
    if np.broadcast_shapes(x.shape, slope.shape) != tuple(x.shape):
        raise refuse(node, f"{list(slope.shape)} slopes do not fit {list(x.shape)}")
    by_channel = x.ndim > 1 and list(slope.shape) == [x.shape[1], *[1] * (x.ndim - 2)]
    if by_channel or (x.ndim > 1 and slope.numel() == 1):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x > 0, x, slope * x)


@operator("LeakyRelu", attributes="alpha")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("Elu", attributes="alpha")
def _elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu", attributes="alpha")
def _celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu", attributes="alpha gamma")
def _selu(node: Node, x: Tensor) -> Tensor:
    return float(node.get("gamma", 1.0507009873554805)) * F.elu(x, node.get("alpha", 1.6732632423543772))


@operator("ThresholdedRelu", attributes="alpha")
def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid", attributes="alpha beta")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x * float(node.get("alpha", 0.2)) + float(node.get("beta", 0.5)), 0, 1)


@operator("Gelu", attributes="approximate")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=require(node, "approximate", "none", "tanh"))


@operator("Swish", attributes="alpha")
def _swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)
