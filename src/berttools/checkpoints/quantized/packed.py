"""Codes of fewer than eight bits in rows: compressed-tensors' packed integers, NVFP4, MXFP4, MXFP6 and gpt-oss.

Integers: (code - 2^(bits - 1) - zero point) * scale. Floats: the value of the code * the scale of its group of 16 or
32, over a global scale (compressed-tensors) or times one (ModelOpt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.quantized.codes import E2M1, E2M3, unpack
from berttools.checkpoints.quantized.layout import MX_BLOCK, Layout, NotCertain, Weight, e8m0, split_name
from berttools.checkpoints.quantized.tensors import (
    BandedTensor,
    DequantizedTensor,
    Factors,
    Float64s,
    Grid,
    PackedDownTensor,
    UnpackedTensor,
)

_NV_BLOCK = 16
_EXPONENTS = {"U8", "F8_E8M0"}
Found = tuple[tuple[int, ...], Callable[[], FlatTensor]]
"""Shape of a weight, and what makes its values."""


def find_packed(layout: Layout) -> Iterator[Weight]:
    """Yield the weights whose codes are packed along their rows."""
    for own, stored in layout.tensors.items():
        reader = _reader(layout, own, stored.dtype)
        if reader is None:
            continue
        read, name, parts = reader
        try:
            shape, make = read(layout, own, name)
        except NotCertain as why:
            yield layout.refused(name, own, str(why), parts)
        else:
            yield layout.weight(name, own, shape, make, parts)


def _reader(layout: Layout, own: str, dtype: str) -> tuple[Callable[[Layout, str, str], Found], str, list[str]] | None:
    """Return what reads a tensor of packed codes, the weight's name, and what stands beside it; None for any other."""
    leaf = split_name(own)[1]
    if leaf.endswith("_packed") and dtype in ("I32", "U8"):
        name = own.removesuffix("_packed")
        endings = ("shape", "scale", "zero_point", "g_idx") if dtype == "I32" else ("scale", "global_scale")
        return (_integers if dtype == "I32" else _floats), name, [f"{name}_{each}" for each in endings]
    if leaf.endswith("_blocks") and dtype == "U8":
        name = own.removesuffix("_blocks")
        return _expert_blocks, name, [f"{name}_scales"]
    scale, inverse = (layout.tensors.get(f"{own}_{ending}") for ending in ("scale", "scale_inv"))
    if dtype == "U8" and scale is not None and scale.dtype in {"F8_E4M3", *_EXPONENTS}:  # ModelOpt
        return _floats, own, [f"{own}_scale", f"{own}_scale_2"]
    if dtype == "I8" and inverse is not None and inverse.dtype == "F8_E8M0":  # DeepSeek's experts
        return partial(_floats, ending="scale_inv"), own, [f"{own}_scale_inv"]
    return None


def _integers(layout: Layout, own: str, name: str) -> Found:
    """Return shape and values of compressed-tensors' packed integers. Raises NotCertain."""
    scheme, words = layout.scheme(split_name(own)[0].removesuffix(".")), layout.tensors[own].shape
    rows, columns = _logical_shape(layout, own, name)
    bits = _bits(scheme.get("num_bits"), words[-1], columns)
    scale, zero, index = (f"{name}_{each}" for each in ("scale", "zero_point", "g_idx"))
    if scheme.get("type", "int") != "int" or (zero not in layout.tensors and scheme.get("symmetric") is False):
        raise NotCertain(f"{zero} is missing, or its config.json names other than integers")
    grid = _groups(layout, scale, rows, columns, scheme)
    block = (rows // grid[0], columns // grid[1])
    packed = layout.tensors[zero].dtype == "I32" if zero in layout.tensors else False
    if zero in layout.tensors and layout.tensors[zero].shape != (
        (-(-rows * bits // 32), grid[1]) if packed else layout.tensors[scale].shape
    ):
        raise NotCertain(f"{zero} has shape {list(layout.tensors[zero].shape)}, and is no zero point of its groups")

    def codes(held: NDArray[Any]) -> NDArray[Any]:
        return unpack(held, bits).astype(np.int16) - (1 << (bits - 1))

    def make() -> FlatTensor:
        order = column_groups(layout, index, columns, grid[1])
        factors: list[Factors] = [Grid(layout.flat(scale), grid, block, rows, of_column=order)]
        if zero in layout.tensors:
            zeros = layout.flat(zero)
            if packed:
                zeros = PackedDownTensor(zeros, bits, grid[1])
            factors.append(Grid(zeros, (rows, grid[1]) if packed else grid, (1, block[1]), rows, of_column=order))
        held = UnpackedTensor(layout.stored_bytes(own), 4 * words[1], columns, codes)
        return DequantizedTensor(held, columns, *factors)

    return (rows, columns), make


def _logical_shape(layout: Layout, own: str, name: str) -> tuple[int, int]:
    """Return rows and columns that a tensor beside packed words says. Raises NotCertain."""
    said = layout.tensors.get(f"{name}_shape")
    if said is None or said.size != 2 or said.dtype[0] not in "IU" or len(layout.tensors[own].shape) != 2:
        raise NotCertain(f"{name}_shape does not say two sides of a matrix")
    rows, columns = (int(each) for each in layout.array(f"{name}_shape").reshape(-1))
    if rows != layout.tensors[own].shape[0] or columns < 1:
        raise NotCertain(f"{name}_shape says [{rows}, {columns}], but there are {layout.tensors[own].shape[0]} rows")
    return rows, columns


def _bits(said: Any, words: int, columns: int) -> int:
    """Return the bits of a code, of those whose packed rows have that many words. Raises NotCertain."""
    fitting = [bits for bits in range(1, 9) if -(-columns * bits // 32) == words and said in (None, bits)]
    # Versions before codes crossed from word to word left the rest of each word empty.
    if len(fitting) != 1 or (32 % fitting[0] and -(-columns // (32 // fitting[0])) == words > 1):
        raise NotCertain(f"rows of {words} words hold no certain number of bits for {columns} columns")
    return fitting[0]


def _groups(layout: Layout, scale: str, rows: int, columns: int, scheme: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of the scales of packed integers. Raises NotCertain."""
    stored = layout.tensors.get(scale)
    if stored is None or stored.dtype not in ("F64", "F32", "F16", "BF16"):
        raise NotCertain(f"{scale} is missing, or no float")
    if stored.size == 1:
        return 1, 1
    shape = (rows, 1) if stored.shape == (rows,) else stored.shape
    if not stored.size or len(shape) != 2 or shape[0] != rows or columns % shape[1]:
        raise NotCertain(f"{scale} has shape {list(stored.shape)}, and is no scale for each group of {columns} columns")
    if scheme.get("strategy") == "group" and scheme.get("group_size") != columns // shape[1]:
        raise NotCertain(f"{scale} is not that of groups of {scheme.get('group_size')}, as its config.json has them")
    return rows, shape[1]


def column_groups(layout: Layout, index: str, columns: int, groups: int) -> NDArray[Any] | None:
    """Return the group of each column; None where a tensor of groups is missing, or says nothing.

    Raises
    ------
    InputError
        It names groups that are not there.
    """
    if index not in layout.tensors:
        return None
    of_column = layout.array(index).reshape(-1)
    if (of_column == -1).all():
        return None
    if (
        of_column.dtype.kind not in "iu"
        or len(of_column) != columns
        or of_column.min() < 0
        or of_column.max() >= groups
    ):
        raise InputError(
            f"{layout.tensors[index].path}: {index} is not one of {groups} groups for each of {columns} columns;"
            " copy it again",
            kind="quantization",
        )
    return of_column


# Codes a byte and what they mean, by how many bytes of codes there are to a scale.
_FLOAT_CODES = {8: (4, E2M1), 16: (4, E2M1), 24: (6, E2M3)}


def _floats(layout: Layout, own: str, name: str, ending: str = "scale") -> Found:
    """Return shape and values of 4-bit and 6-bit floats in groups. Raises NotCertain."""
    stored, scale = layout.tensors[own], f"{name}_{ending}"
    if scale not in layout.tensors or len(stored.shape) not in (2, 3):
        raise NotCertain(f"{scale} is missing, or its shape {list(stored.shape)} is that of no matrix")
    scales, width = layout.tensors[scale], stored.shape[-1]
    group = width // max(1, scales.shape[-1]) if scales.shape else 0
    nv = group == 8
    if (
        scales.shape[:-1] != stored.shape[:-1]
        or group not in _FLOAT_CODES
        or group * scales.shape[-1] != width
        or scales.dtype not in ({"F8_E4M3"} if nv else _EXPONENTS)
    ):
        raise NotCertain(f"{scale} ({scales.dtype}, {list(scales.shape)}) is of no known format of small floats")
    over, times = f"{name}_global_scale", f"{name}_scale_2"
    if (nv and (over in layout.tensors) == (times in layout.tensors)) or (not nv and times in layout.tensors):
        raise NotCertain(f"of {over} and {times} one must be there")
    bits, table = _FLOAT_CODES[group]
    columns, size, rows = width * 8 // bits, _NV_BLOCK if nv else MX_BLOCK, stored.shape[-2]
    for each in (over, times):
        if each in layout.tensors and layout.tensors[each].size != 1:
            raise NotCertain(f"{each} is not one number")

    def make() -> FlatTensor:
        divisor = layout.number(over) if over in layout.tensors else 1.0
        if divisor == 0:
            raise InputError(
                f"{layout.tensors[over].path}: {over} is 0, and nothing can be divided by it; copy it again",
                kind="quantization",
            )
        factor = 1 / divisor
        factor *= layout.number(times) if times in layout.tensors else 1.0
        grid = Grid(layout.flat(scale), (rows, columns // size), (1, size), rows, factor=factor, decode=e8m0)
        held = UnpackedTensor(layout.stored_bytes(own), width, columns, lambda codes: table[unpack(codes, bits)])
        return DequantizedTensor(held, columns, grid)

    return (*stored.shape[:-1], columns), make


def _expert_blocks(layout: Layout, own: str, name: str) -> Found:
    """Return shape and values of gpt-oss' experts, MXFP4 that is stored transposed. Raises NotCertain."""
    shape, scale = layout.tensors[own].shape, f"{name}_scales"
    scales = layout.tensors.get(scale)
    if len(shape) != 4 or shape[3] != MX_BLOCK // 2 or scales is None or scales.shape != shape[:3]:
        raise NotCertain(f"{scale} is not one scale for each block of 16 bytes")
    if scales.dtype not in _EXPONENTS:
        raise NotCertain(f"{scale} is {scales.dtype}, no exponent")
    experts, rows, groups, block = shape
    columns = groups * MX_BLOCK

    def make() -> FlatTensor:
        flat, count = layout.flat(own), layout.tensors[own].size
        held = flat.values(0, count).reshape(shape)
        powers = layout.stored_bytes(scale).values(0, count // block).reshape(shape[:3])

        def band(first: int, last: int) -> Float64s:
            pieces = []
            while first < last:
                expert, start = divmod(first, columns)
                stop = min(columns, start + last - first)
                low, high = start // MX_BLOCK, -(-stop // MX_BLOCK)
                codes = unpack(np.ascontiguousarray(held[expert, :, low:high]).reshape(rows, -1), 4)
                values = E2M1[codes].reshape(rows, high - low, MX_BLOCK)
                values *= e8m0(np.ascontiguousarray(powers[expert, :, low:high]).reshape(-1)).reshape(rows, -1, 1)
                pieces.append(values.reshape(rows, -1)[:, start - low * MX_BLOCK : stop - low * MX_BLOCK].T)
                first += stop - start
            return np.concatenate(pieces)

        return BandedTensor(experts * columns, rows, band, unit=MX_BLOCK, release=lambda: flat.release(0, count))

    return (experts, columns, rows), make
