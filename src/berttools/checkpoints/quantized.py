"""Dequantize 8-bit weights: read integers or 8-bit floats that are stored with scales as the weights they represent.

Known are bitsandbytes' ``SCB`` (weight = int8 * SCB / 127, a scale a row) and ``weight_scale`` of compressed-tensors
and quanto (weight = stored * scale, a scale a row or one for all).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from _toolio.errors import InputError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import Checkpoint, Source, Stored
from berttools.checkpoints.views import ScaledTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EIGHT_BITS = {"I8", "F8_E4M3", "F8_E5M2"}
# What replaces "weight" in the name of the scale, and what the scale is divided by.
_SCALES = {"SCB": 127.0, "weight_scale": 1.0}
_REST = ("weight_format", "weight_zero_point")


class _Scaled(NamedTuple):
    """The weights of a model of quantized tensors."""

    model: Checkpoint
    scales: Mapping[str, tuple[str, float]]

    def flat(self, name: str) -> FlatTensor:
        """Return a weight as flat values in C order. Raises as `Checkpoint.flat`."""
        zero_points = f"{name}_zero_point"
        if zero_points in self.model.tensors:
            raise InputError(f"{self.model.path}: {name} has zero points, which are not read", kind="unknown-dtype")
        return ScaledTensor(self.model.flat(name), self.model.tensors[name].shape[1], self._scale(name))

    def _scale(self, name: str) -> NDArray[np.float64]:
        own, divisor = self.scales[name]
        stored = self.model.tensors[own]
        values: NDArray[np.float64] = self.model.flat(own).values(0, stored.size) / divisor
        return values


def with_scales(model: Checkpoint) -> Checkpoint:
    """Return a model whose 8-bit weights are multiplied by their scales, which are no tensors of it any more.

    A model without such weights is returned as it is; 8-bit numbers without a scale stay numbers.
    """
    scales: dict[str, tuple[str, float]] = {}
    hidden: set[str] = set()
    for name, stored in model.tensors.items():
        if stored.dtype not in _EIGHT_BITS or len(stored.shape) != 2 or not name.endswith("weight"):
            continue
        stem = name.removesuffix("weight")
        for ending, divisor in _SCALES.items():
            beside = model.tensors.get(stem + ending)
            if beside is not None and beside.size in (1, stored.shape[0]):
                scales[name] = (stem + ending, divisor)
                hidden.update(stem + other for other in (ending, *_REST))
                break
    if not scales:
        return model
    scaled = _Scaled(model, scales)
    sources: dict[str, tuple[Stored, Source]] = {
        name: (stored, scaled if name in scales else model)
        for name, stored in model.tensors.items()
        if name not in hidden
    }
    return Checkpoint(model.path, sources, model.config)
