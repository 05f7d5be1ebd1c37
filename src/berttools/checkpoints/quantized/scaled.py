"""8-bit integers and floats with scales.

DeepSeek, Qwen, compressed-tensors, FBGEMM, ModelOpt, TensorRT-LLM, bitsandbytes (LLM.int8) and quanto store them.

weight = (code - zero point) * scale, with one scale for all, for each row, for each column, or for each block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from _toolio.errors import InputError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.quantized.layout import MX_BLOCK, Layout, NotCertain, Weight, e8m0, matrices, split_name
from berttools.checkpoints.quantized.tensors import DequantizedTensor, Everywhere, Factors, Grid

_FLOAT8 = {"F8_E4M3", "F8_E5M2"}
_CODES = {"I8", *_FLOAT8}
_EXPONENTS = {"U8", "F8_E8M0"}
_NUMBERS = {"F64", "F32", "F16", "BF16", "F8_E4M3", *_EXPONENTS}

Block = tuple[int, int]
Make = Callable[[], Factors]


def find_scaled(layout: Layout) -> Iterator[Weight]:
    """Yield the weights whose codes are 8-bit numbers, one a byte."""
    for own, stored in layout.tensors.items():
        if stored.dtype not in _CODES or stored.scaled:
            continue
        stem, leaf = split_name(own)
        name = own.removesuffix("._data") if leaf == "_data" else own
        scale = _scale_name(layout, stem, own, leaf)
        if scale is None:
            continue
        parts = [scale, f"{own}_zero_point", f"{own}_g_idx"]
        if scale == f"{stem}SCB":
            parts = [scale, f"{stem}weight_format"]
        try:
            yield layout.weight(name, own, stored.shape, _weight(layout, stem, own, scale), parts)
        except NotCertain as why:
            yield layout.refused(name, own, str(why), parts)


def _scale_name(layout: Layout, stem: str, own: str, leaf: str) -> str | None:
    """Return the name of the tensor of scales."""
    if leaf == "_data":
        return f"{stem}_scale" if f"{stem}_scale" in layout.tensors else None
    names = [f"{own}_scale_inv", f"{own}_scale"]
    if leaf == "weight":
        names += [f"{stem}SCB", f"{stem}weights_scaling_factor", f"{stem}scale"]
    return next((each for each in names if each in layout.tensors), None)


def _weight(layout: Layout, stem: str, own: str, scale: str) -> Callable[[], FlatTensor]:
    """Return what makes a weight. Raises NotCertain."""
    stored, kind = layout.tensors[own], split_name(scale)[1]
    shape = matrices(stored.shape)
    if shape is None:
        raise NotCertain(f"its shape {list(stored.shape)} is that of no matrix")
    if kind == "SCB":
        return _bitsandbytes(layout, stem, own, scale)
    if kind == "weights_scaling_factor" and (stored.dtype == "I8" or layout.tensors[scale].size != 1):
        raise NotCertain(f"{scale} is not one number beside 8-bit floats, as TensorRT-LLM's FP8 has it")
    if (kind == "scale" or kind.endswith("_scale_inv")) and stored.dtype == "I8":
        raise NotCertain(f"{scale} beside integers is of no format that is known")
    if layout.method == "fbgemm_fp8" and shape[0] > 1:
        raise NotCertain(f"{scale} of a stack of experts is stored by FBGEMM in more than one order")
    scheme = {} if kind == "weights_scaling_factor" else layout.scheme(stem.removesuffix("."))
    block = _block(layout, scheme, kind)
    factors = grid_factors(layout, scale, shape, block, scheme.get("strategy"))
    columns, index = shape[2], f"{own}_g_idx"
    if index in layout.tensors:
        raise NotCertain(f"its columns are in an order of their own ({index})")
    zero = f"{own}_zero_point"
    zeros = None
    if zero not in layout.tensors and scheme.get("symmetric") is False:
        raise NotCertain(f"{zero} is missing")
    if zero in layout.tensors:
        if layout.tensors[zero].shape != layout.tensors[scale].shape:
            raise NotCertain(f"{zero} has another shape than {scale}")
        zeros = grid_factors(layout, zero, shape, block, scheme.get("strategy"), integers=True)
    return lambda: DequantizedTensor(layout.flat(own), columns, factors(), zeros and zeros())


def _bitsandbytes(layout: Layout, stem: str, own: str, scale: str) -> Callable[[], FlatTensor]:
    """Return what makes LLM.int8's weight: code * SCB / 127, an SCB a row. arXiv 2208.07339, section 2.1."""
    rows, columns = layout.tensors[own].shape if len(layout.tensors[own].shape) == 2 else (0, 0)
    if not rows or layout.tensors[own].dtype != "I8" or layout.tensors[scale].size != rows:
        raise NotCertain(f"{scale} is not one number for each of its rows of integers")
    order = f"{stem}weight_format"
    if order in layout.tensors and layout.tensors[order].size != 1:
        raise NotCertain(f"{order} is not one number")

    def make() -> FlatTensor:
        if order in layout.tensors and layout.number(order) != 0:
            raise InputError(
                f"{layout.tensors[own].path}: {own} is stored in the order of a kind of GPU ({order});"
                " save it again with bitsandbytes 0.43 or later, and give that",
                kind="quantization",
            )
        scales = Grid(layout.flat(scale), (rows, 1), (1, columns), rows, factor=1 / 127)
        return DequantizedTensor(layout.flat(own), columns, scales)

    return make


def _block(layout: Layout, scheme: Mapping[str, Any], kind: str) -> Block | None:
    """Return the rows and columns of a block that the configuration names; None where it names none."""
    strategy = scheme.get("strategy")
    if strategy == "group":
        return _positive([1, scheme.get("group_size")])
    if strategy == "block":
        return _positive(scheme.get("block_structure"))
    if strategy is not None or kind in ("weights_scaling_factor", "_scale"):
        return None
    said = layout.config.get("weight_block_size")
    return None if said is None else _positive(said)


def _positive(sizes: Any) -> Block:
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(each) is int and each > 0 for each in sizes):
        raise NotCertain(f"{sizes!r} in its configuration is no size of blocks")
    return sizes[0], sizes[1]


def grid_factors(
    layout: Layout,
    scale: str,
    shape: tuple[int, int, int],
    block: Block | None,
    strategy: str | None = None,
    *,
    integers: bool = False,
) -> Make:
    """Return what makes the scales of a matrix, or of a stack of matrices, from a tensor of them.

    Shapes decide, and never counts alone: 64 numbers may be those of 64 rows or of 8 by 8 blocks.

    Parameters
    ----------
    layout
        The checkpoint.
    scale
        Name of the tensor of scales.
    shape
        Count, rows and columns of the matrices.
    block
        Rows and columns of a block, where the configuration names them.
    strategy
        compressed-tensors' word for what has a scale of its own, where that is certain.
    integers
        The tensor holds zero points, which may be integers.

    Raises
    ------
    NotCertain
        It is not certain which scale is whose.
    """
    stored = layout.tensors[scale]
    if stored.dtype not in _NUMBERS and not (integers and stored.dtype.startswith(("I", "U"))):
        raise NotCertain(f"{scale} is {stored.dtype}, no scale")
    decode = None if integers else e8m0
    if stored.size == 1 and strategy in (None, "tensor"):
        return lambda: Everywhere(float((decode or np.asarray)(layout.array(scale).reshape(-1))[0]))
    _, rows, columns = shape
    grid = _grid_shape(stored.shape, shape, block)
    if block is not None and grid == (-(-rows // block[0]), -(-columns // block[1])):
        if strategy == "group" and columns % block[1]:
            raise NotCertain(f"groups of {block[1]} do not divide its {columns} columns")
    elif stored.dtype in _EXPONENTS and not integers and grid == (rows, columns / MX_BLOCK):
        block = (1, MX_BLOCK)
    elif block is None and strategy in (None, "channel") and grid == (rows, 1):
        block = (1, columns)
    elif block is None and strategy is None and grid == (1, columns):
        block = (rows, 1)
    elif block is None and strategy is None and grid == (1, 1):
        block = (rows, columns)
    else:
        raise NotCertain(_mismatch(scale, stored.shape, block, strategy))
    picked = block
    return lambda: Grid(layout.flat(scale), grid, picked, rows, decode=decode)


def _grid_shape(shape: tuple[int, ...], of: tuple[int, int, int], block: Block | None) -> tuple[int, int]:
    """Return rows and columns of the scales of one matrix; (0, 0) where there are other dimensions."""
    count, rows, _ = of
    if len(shape) == 2 and count == 1:
        return shape[0], shape[1]
    if len(shape) == 3 and shape[0] == count:
        return shape[1], shape[2]
    if shape == (rows,) and count == 1 and block is None:
        return rows, 1
    return 0, 0


def _mismatch(scale: str, shape: tuple[int, ...], block: Block | None, strategy: str | None) -> str:
    held = f"{scale} has shape {list(shape)}, which"
    if block is not None:
        return f"{held} is not that of blocks of {block[0]} by {block[1]}, as its config.json has them"
    if strategy is not None:
        return f"{held} is not that of a scale for each {strategy}, as its config.json has it"
    return f"{held} is neither one number, nor one a row, nor one a column; the size of blocks is in no config.json"
