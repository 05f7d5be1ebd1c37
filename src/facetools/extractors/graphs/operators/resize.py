"""Enlargement and reduction of maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facetools.extractors.graphs.operators.registry import (
    Node,
    axes_of,
    bounded,
    integers,
    operator,
    refuse,
    require,
)

_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

Floats = npt.NDArray[np.float64]


@operator("Upsample", attributes="mode scales")
def _upsample(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    return _by_whole_factors(node, x, given.tolist() if given is not None else node.get("scales"))


@operator(
    "Resize",
    attributes="antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value"
    " keep_aspect_ratio_policy mode nearest_mode",
)
def _resize(
    node: Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    if node.opset < 11:  # its second input were the scales then
        return _by_whole_factors(node, x, [] if roi is None else roi.tolist())
    require(node, "antialias", 0)
    require(node, "exclude_outside", 0)
    require(node, "keep_aspect_ratio_policy", "stretch")
    axes = axes_of(node, None, x.ndim)
    axes = list(range(x.ndim)) if axes is None else axes
    before = [x.shape[axis] for axis in axes]
    if sizes is not None and sizes.numel():
        behind = integers(sizes)
        factors = [size / side for size, side in zip(behind, before, strict=True)]
    else:
        factors = [] if scales is None else scales.tolist()
        behind = [math.floor(side * factor) for side, factor in zip(before, factors, strict=True)]
    bounded(node, [x.numel(), *(math.ceil(size / side) for size, side in zip(behind, before, strict=True))])
    for axis, size, factor in zip(axes, behind, factors, strict=True):
        if size != x.shape[axis] or factor != 1:
            x = _along(node, x, axis, size, factor)
    return x


def _by_whole_factors(node: Node, x: Tensor, factors: Sequence[float]) -> Tensor:
    """Repeat each number: what all readings of operators before opset 11 agree on."""
    whole = all(factor == int(factor) >= 1 for factor in factors)
    if len(factors) != x.ndim or not whole or (node.get("mode", "nearest") != "nearest" and set(factors) != {1}):
        raise refuse(node, f"mode {node.get('mode', 'nearest')} by {list(factors)} is not read; export with opset 18")
    bounded(node, [x.numel(), *(int(factor) for factor in factors)])
    for axis, factor in enumerate(factors):
        x = x.repeat_interleave(int(factor), axis)
    return x


def _along(node: Node, x: Tensor, axis: int, size: int, factor: float) -> Tensor:
    """Resize one axis: a weighted sum of places, the same for all rows."""
    side = x.shape[axis]
    places = _coordinates(node, side, size, factor)
    mode = require(node, "mode", "nearest", "linear", "cubic")
    if mode == "nearest":
        nearest = _rounded(require(node, "nearest_mode", *_ROUNDINGS), places).clip(0, side - 1)
        return x.index_select(axis, torch.from_numpy(nearest.astype(np.int64)).to(x.device))
    taps = _cubic(places, node.get("cubic_coeff_a", -0.75)) if mode == "cubic" else _linear(places, side)
    matrix = np.zeros((size, side))
    for sources, weights in taps:
        np.add.at(matrix, (np.arange(size), sources.clip(0, side - 1).astype(np.int64)), weights)
    weighted = x.movedim(axis, -1) @ torch.from_numpy(matrix).to(x).mT
    return weighted.movedim(-1, axis)


def _coordinates(node: Node, side: int, size: int, factor: float) -> Floats:
    """Return where the output's places lie in the input."""
    places = np.arange(size, dtype=np.float64)
    mode = require(node, "coordinate_transformation_mode", *_COORDINATES)
    if mode == "asymmetric":
        return places / factor
    if mode == "align_corners":
        if abs(side * factor - size) > 1e-4:  # runtimes differ in whether the size is rounded first
            raise refuse(node, f"align_corners by {factor:g} of {side} is not read")
        return places * ((side - 1) / (size - 1)) if size > 1 else places * 0
    if mode == "pytorch_half_pixel" and size == 1:
        return places * 0
    shift = side / 2 * (1 - size / (side * factor)) if mode == "half_pixel_symmetric" else 0.0
    return shift + (places + 0.5) / factor - 0.5


def _rounded(mode: str, places: Floats) -> Floats:
    if mode == "floor":
        return np.floor(places)
    if mode == "ceil":
        return np.ceil(places)
    return np.ceil(places - 0.5) if mode == "round_prefer_floor" else np.floor(places + 0.5)


def _linear(places: Floats, side: int) -> list[tuple[Floats, Floats]]:
    places = places.clip(0, side - 1)
    first = np.floor(places)
    return [(first, 1 - (places - first)), (first + 1, places - first)]


def _cubic(places: Floats, a: float) -> list[tuple[Floats, Floats]]:
    """Return the four taps of a cubic convolution (Keys 1981)."""
    first = np.floor(places)
    taps = []
    for step in (-1, 0, 1, 2):
        away = np.abs(places - (first + step))
        near = ((a + 2) * away - (a + 3)) * away**2 + 1
        far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
        taps.append((first + step, np.where(away <= 1, near, far)))
    return taps
