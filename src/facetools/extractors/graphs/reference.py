"""The embedding that the ONNX project's own evaluator computes, to hold ours against."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetools.extractors.graphs.model import chips_of, opset_of

EVALUATOR = "onnx.reference"
"""What records call it."""

Floats = NDArray[Any]


def reference_embedding(model: Any, chips: Tensor) -> Tensor | None:
    """Return the output of a model of :func:`read_model` as ``onnx.reference`` computes it, with numpy.

    Operators that it computes otherwise than the format's text says are replaced: windows, softmax before opset 13,
    normalisation by statistics, by sums, by channels.

    Parameters
    ----------
    model
        The model.
    chips
        float32, in the model's own order of axes.

    Returns
    -------
    Tensor or None
        float32 [B, D]; None where this version of onnx cannot compute it.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(model, new_ops=_operators(opset_of(model)))
            (out,) = evaluator.run(None, {chips_of(model).name: chips.numpy()})
    except Exception:  # its operators fail in ways of their own; then there is nothing to hold against
        return None
    # A copy: what the evaluator returns may be read-only, of which torch warns.
    return torch.from_numpy(np.array(out, dtype=np.float32)).reshape(len(chips), -1)


def _operators(opset: int) -> list[Any]:
    """Return classes of the evaluator's kind for operators of an opset."""
    from onnx.reference.op_run import OpRun

    def replaced(operator: str, compute: Callable[..., Floats]) -> Any:
        """Return a class that computes an operator from its inputs and those of its attributes that the node has."""

        def run(self: Any, *inputs: Floats, **attributes: Any) -> tuple[Floats, ...]:
            own = {each.name for each in self.onnx_node.attribute}
            found = compute(*inputs, **{key: value for key, value in attributes.items() if key in own})
            return (found.astype(inputs[0].dtype),)

        return type(operator, (OpRun,), {"op_domain": "", "_run": run})

    functions = _FUNCTIONS if opset >= 13 else _FUNCTIONS | _BEFORE_13
    return [replaced(operator, compute) for operator, compute in functions.items()]


def _normalised(x: Floats, *weights: Floats, epsilon: float = 1e-5, **_: Any) -> Floats:
    scale, bias, mean, variance = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in weights)
    found: Floats = scale * (x - mean) / np.sqrt(variance + epsilon) + bias
    return found


def _unit(x: Floats, *, axis: int = -1, p: int = 2) -> Floats:
    norm = np.linalg.norm(x, p, axis, keepdims=True)
    found: Floats = x / np.maximum(norm, np.finfo(x.dtype).tiny)
    return found


def _local_response(x: Floats, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Floats:
    channels = np.arange(x.shape[1])
    away = channels[None] - channels[:, None]
    near = (away >= -((size - 1) // 2)) & (away <= size // 2)
    squares = np.einsum("dc,bc...->bd...", near.astype(np.float64), np.square(x, dtype=np.float64))
    found: Floats = x / (bias + alpha / size * squares) ** beta
    return found


def _log_softmax(x: Floats, *, axis: int = 1) -> Floats:
    first = axis % x.ndim
    flat = x.reshape(math.prod(x.shape[:first]), -1)
    flat = flat - flat.max(1, keepdims=True)
    found: Floats = flat - np.log(np.exp(flat).sum(1, keepdims=True))
    return found.reshape(x.shape)


def _softmax(x: Floats, *, axis: int = 1) -> Floats:
    return np.exp(_log_softmax(x, axis=axis))


def _average(x: Floats, *, count_include_pad: int = 0, **attributes: Any) -> Floats:
    """Return means over windows: sums are products with a matrix of ones an axis, and so are the counts."""
    total, counts = x.astype(np.float64), np.ones((), np.float64)
    for axis, (places, padded) in enumerate(_windows(x.shape[2:], **attributes), 2):
        inside = (places >= 0) & (places < x.shape[axis])
        ones = np.zeros((len(places), x.shape[axis]))
        ones[np.nonzero(inside)[0], places[inside]] = 1
        counts = np.multiply.outer(counts, ((places < padded) if count_include_pad else inside).sum(1))
        total = np.moveaxis(np.tensordot(total, ones, (axis, 1)), -1, axis)
    return total / counts


def _maximum(x: Floats, *, storage_order: int = 0, **attributes: Any) -> Floats:  # noqa: ARG001
    for axis, (places, _) in enumerate(_windows(x.shape[2:], **attributes), 2):
        behind = np.pad(x, [(0, int(each == axis)) for each in range(x.ndim)], constant_values=-np.inf)
        inside = (places >= 0) & (places < x.shape[axis])
        x = np.take(behind, np.where(inside, places, x.shape[axis]), axis).max(axis + 1)
    return x


def _windows(
    sides: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield, for each axis, the places in the input of each window, shape (outputs, kernel), and where padding ends."""
    for axis, (side, kernel) in enumerate(zip(sides, kernel_shape, strict=True)):
        step, spread = (each[axis] if len(each) else 1 for each in (strides, dilations))
        window = (kernel - 1) * spread + 1
        before, behind = (pads[axis], pads[axis + len(sides)]) if len(pads) and auto_pad == "NOTSET" else (0, 0)
        if auto_pad.startswith("SAME"):
            whole = max((-(-side // step) - 1) * step + window - side, 0)
            before = whole // 2 if auto_pad == "SAME_UPPER" else whole - whole // 2
            behind = whole - before
        room = side + before + behind - window
        outputs = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (outputs - 1) * step >= side + before:  # no window begins behind the input
            outputs -= 1
        places = np.arange(outputs)[:, None] * step + np.arange(kernel)[None] * spread - before
        yield places, side + behind


_FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "BatchNormalization": _normalised,  # its own of opsets 9 to 13 normalises by the batch's mean
    "AveragePool": _average,  # where ceil_mode is set, its own windows end elsewhere
    "MaxPool": _maximum,
    "LpNormalization": _unit,  # its own adds numbers up with their signs where p is 1
    "LRN": _local_response,  # its own differs from the text and from onnxruntime
}
_BEFORE_13: dict[str, Callable[..., Floats]] = {"Softmax": _softmax, "LogSoftmax": _log_softmax}
"""Its own does not take the axis and all behind it as one, and the last axis by default."""
