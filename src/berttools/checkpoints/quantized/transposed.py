"""GPTQ and AWQ: integers packed into 32-bit words of a matrix that is stored transposed, scales by group of inputs.

weight[out, in] = (code - zero point) * scale. GPTQ packs along the inputs and, in its first format, stores zero points
less one (arXiv 2210.17323; AutoGPTQ); AWQ packs eight outputs a word in an order of its own (arXiv 2306.00978;
AutoAWQ's version gemm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.quantized.codes import unpack, unpack_awq
from berttools.checkpoints.quantized.layout import Layout, NotCertain, Weight, split_name
from berttools.checkpoints.quantized.packed import Found, column_groups
from berttools.checkpoints.quantized.tensors import BandedTensor, Float64s

_PARTS = ("qzeros", "scales", "g_idx")
_GPTQ_BITS = (2, 3, 4, 8)
Codes = Callable[[int, int], NDArray[Any]]
"""Codes of a range of outputs: shape (last - first, inputs or groups)."""


def find_transposed(layout: Layout) -> Iterator[Weight]:
    """Yield the weights of GPTQ and AWQ."""
    for own, stored in layout.tensors.items():
        stem, leaf = split_name(own)
        if leaf != "qweight" or stored.scaled:
            continue
        parts = [f"{stem}{part}" for part in _PARTS]
        try:
            if stored.dtype != "I32" or len(stored.shape) != 2:
                raise NotCertain("it is no matrix of 32-bit words")
            if layout.method not in ("gptq", "awq"):
                raise NotCertain("which of GPTQ and AWQ made it is in no config.json beside it")
            shape, make = (_gptq if layout.method == "gptq" else _awq)(layout, stem, own)
        except NotCertain as why:
            yield layout.refused(f"{stem}weight", own, str(why), parts)
        else:
            yield layout.weight(f"{stem}weight", own, shape, make, parts)


def _gptq(layout: Layout, stem: str, own: str) -> Found:
    """Return shape and values of a weight of GPTQ. Raises NotCertain."""
    made = layout.config.get("checkpoint_format") or layout.config.get("format") or "gptq"
    if made not in ("gptq", "gptq_v2"):
        raise NotCertain(f"its checkpoint_format is {made}")
    if layout.config.get("rotation"):
        raise NotCertain(f"its weights are rotated ({layout.config['rotation']})")
    zeros, scales, index = (f"{stem}{part}" for part in _PARTS)
    words, outputs = layout.tensors[own].shape
    groups = _groups(layout, scales, outputs)
    bits = layout.config.get("bits")
    bits = bits if type(bits) is int and bits in _GPTQ_BITS else None
    inputs = layout.tensors[index].size if index in layout.tensors else words * 32 // bits if bits else 0
    bits = next((each for each in _GPTQ_BITS if each * inputs == 32 * words), 0)
    if not bits or not inputs:
        raise NotCertain(f"{words} rows of words hold no certain number of bits for {inputs} inputs")
    if outputs * bits % 32 or not _is(layout, zeros, "I32", (groups, outputs * bits // 32)):
        raise NotCertain(f"{zeros} is not a zero point for each of {groups} groups and {outputs} outputs")
    if index not in layout.tensors and (
        inputs % groups or layout.config.get("group_size") not in (-1, inputs // groups)
    ):
        raise NotCertain(f"{index} is missing, and the groups of its config.json are not those of {scales}")
    one = 1 if made == "gptq" else 0

    def make() -> FlatTensor:
        held, points_held = layout.array(own), layout.array(zeros)

        def codes(first: int, last: int) -> NDArray[Any]:
            return unpack(np.ascontiguousarray(held[:, first:last].T).view(np.uint8), bits)[:, :inputs]

        def points(first: int, last: int) -> NDArray[Any]:
            some = points_held[:, first * bits // 32 : -(-last * bits // 32)]
            stored = unpack(np.ascontiguousarray(some).view(np.uint8), bits)[:, : last - first]
            if one and stored.max(initial=0) == (1 << bits) - 1:
                raise InputError(
                    f"{layout.tensors[zeros].path}: {zeros} holds {(1 << bits) - 1}, which versions of GPTQ read as"
                    f" zero point 0 or {1 << bits}; save it again as gptq_v2, and give that",
                    kind="quantization",
                )
            return stored.T.astype(np.int16) + one

        order = column_groups(layout, index, inputs, groups)
        if (
            order is not None
            and inputs % groups == 0
            and np.array_equal(order, np.arange(inputs) // (inputs // groups))
        ):
            order = None
        return _banded(layout, own, scales, (outputs, inputs), codes, points, order, 32)

    return (outputs, inputs), make


def _awq(layout: Layout, stem: str, own: str) -> Found:
    """Return shape and values of a weight of AWQ. Raises NotCertain."""
    version, bits = layout.config.get("version") or layout.config.get("format") or "gemm", layout.config.get("bits", 4)
    if str(version).lower() != "gemm" or bits != 4 or layout.config.get("backend") == "llm-awq":
        raise NotCertain(f"it is AWQ of version {version} with {bits} bits; gemm with 4 is read")
    if layout.config.get("zero_point") is False:
        raise NotCertain("AWQ without zero points is stored in more than one way")
    zeros, scales, index = (f"{stem}{part}" for part in _PARTS)
    inputs, words = layout.tensors[own].shape
    groups = _groups(layout, scales, 8 * words)
    if not _is(layout, zeros, "I32", (groups, words)) or inputs % groups or index in layout.tensors:
        raise NotCertain(f"{zeros} is not a zero point for each of {groups} groups and {8 * words} outputs")
    if layout.config.get("group_size", inputs // groups) not in (-1, inputs // groups):
        raise NotCertain(f"{scales} is not that of the groups that its config.json has")

    def make() -> FlatTensor:
        def of(matrix: NDArray[Any]) -> Codes:
            return lambda first, last: unpack_awq(np.ascontiguousarray(matrix[:, first // 8 : -(-last // 8)])).T

        codes, points = of(layout.array(own)), of(layout.array(zeros))
        return _banded(layout, own, scales, (8 * words, inputs), codes, points, None, 8)

    return (8 * words, inputs), make


def _is(layout: Layout, name: str, dtype: str, shape: tuple[int, ...]) -> bool:
    stored = layout.tensors.get(name)
    return stored is not None and stored.dtype == dtype and stored.shape == shape


def _groups(layout: Layout, scales: str, outputs: int) -> int:
    """Return the number of groups of inputs. Raises NotCertain."""
    stored = layout.tensors.get(scales)
    if stored is None or stored.dtype not in ("F16", "BF16", "F32"):
        raise NotCertain(f"{scales} is missing, or no floats")
    if len(stored.shape) != 2 or stored.shape[1] != outputs or not stored.size:
        raise NotCertain(f"{scales} has shape {list(stored.shape)}, and is no scale for each group and output")
    return stored.shape[0]


def _banded(
    layout: Layout,
    own: str,
    scales: str,
    shape: tuple[int, int],
    codes: Codes,
    points: Codes,
    of_input: NDArray[Any] | None,
    unit: int,
) -> FlatTensor:
    """Return the weight of shape (outputs, inputs), some outputs at a time."""
    outputs, inputs = shape
    flat, size, groups = layout.flat(own), layout.tensors[own].size, layout.tensors[scales].shape[0]

    def spread(by_group: NDArray[Any]) -> NDArray[Any]:
        if of_input is None:
            return np.repeat(by_group, inputs // groups, axis=1)
        return by_group[:, of_input]

    def band(first: int, last: int) -> Float64s:
        # Scales are read again for each band: all tensors are prepared before the first is read, and none may be kept.
        weights = codes(first, last).astype(np.float64, order="C")
        weights -= spread(points(first, last))
        weights *= spread(layout.array(scales)[:, first:last].T.astype(np.float64))
        return weights

    return BandedTensor(outputs, inputs, band, unit=unit, release=lambda: flat.release(0, size))
