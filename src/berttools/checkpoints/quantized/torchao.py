"""torchao's tensors as transformers saves them: parts under names of their own, described in the file's metadata."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError
from _toolio.json_text import parse_json
from _toolio.tensors.reader import FlatTensor, open_safetensors
from berttools.checkpoints.quantized.codes import E2M1, unpack
from berttools.checkpoints.quantized.layout import Layout, NotCertain, Weight, matrices, split_name
from berttools.checkpoints.quantized.scaled import Block, grid_factors
from berttools.checkpoints.quantized.tensors import DequantizedTensor, UnpackedTensor

_CODES = re.compile(r"_(\w+)_qdata")
_READ = {"Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor", "MXTensor"}


def find_torchao(layout: Layout) -> Iterator[Weight]:
    """Yield the weights whose parts are named ``_weight_qdata``, ``_weight_scale`` and so on."""
    described: dict[Path, Mapping[str, str]] = {}
    for own, stored in layout.tensors.items():
        stem, leaf = split_name(own)
        if not (match := _CODES.fullmatch(leaf)):
            continue
        name, scale, zero = (stem + each for each in (match[1], f"_{match[1]}_scale", f"_{match[1]}_zero_point"))
        if stored.path not in described:
            described[stored.path] = _metadata(stored.path)
        parts = [scale, zero]
        try:
            kind, said = _said(described[stored.path], name)
            shape, make = _tensor(layout, kind, said, own, scale, zero)
        except NotCertain as why:
            yield layout.refused(name, own, str(why), parts)
        else:
            yield layout.weight(name, own, shape, make, parts)


def _metadata(path: Path) -> Mapping[str, str]:
    try:
        return open_safetensors(path).metadata
    except ToolError:  # another kind of file
        return {}


def _said(metadata: Mapping[str, str], name: str) -> tuple[str, Mapping[str, Any]]:
    """Return the class of a tensor and its attributes. Raises NotCertain."""
    try:
        found = parse_json(metadata[name])
        kind, data = str(found["_type"]), found["_data"]
    except (KeyError, ValueError, TypeError) as error:
        raise NotCertain("the file's metadata does not say which of torchao's tensors it is") from error
    if kind not in _READ or not isinstance(data, dict):
        raise NotCertain(f"torchao's {kind} is not read")
    return kind, data


def _tensor(
    layout: Layout, kind: str, said: Mapping[str, Any], own: str, scale: str, zero: str
) -> tuple[tuple[int, ...], Callable[[], FlatTensor]]:
    """Return shape and values of a weight. Raises NotCertain."""
    stored, width = layout.tensors[own], said.get("block_size")
    float4 = kind == "MXTensor" and stored.dtype == "U8"
    dtypes = {"Float8Tensor": ("F8_E4M3", "F8_E5M2"), "MXTensor": ("F8_E4M3", "F8_E5M2", "U8")}.get(kind, ("I8",))
    shape = matrices((*stored.shape[:-1], stored.shape[-1] * 2) if float4 and stored.shape else stored.shape)
    if shape is None or stored.dtype not in dtypes or scale not in layout.tensors:
        raise NotCertain(f"{kind} of {stored.dtype} with shape {list(stored.shape)}, or without scale, is not known")
    if kind == "MXTensor":
        element = said.get("elem_dtype")
        name = element.get("_data") if isinstance(element, dict) else None
        if said.get("is_swizzled_scales") or name not in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn_x2"):
            raise NotCertain(f"MXTensor of {name} with its scales in another order, or of another dtype, is not read")
        width = [1, width]
    block = _block(width, shape)
    factors = grid_factors(layout, scale, shape, block)
    zeros = None
    if zero in layout.tensors:
        zeros = grid_factors(layout, zero, shape, block, integers=True)
    columns = shape[2]

    def make() -> FlatTensor:
        codes = layout.flat(own)
        if float4:
            codes = UnpackedTensor(codes, columns // 2, columns, lambda held: E2M1[unpack(held, 4)])
        return DequantizedTensor(codes, columns, factors(), zeros and zeros())

    return ((*stored.shape[:-1], columns)), make


def _block(sizes: Any, shape: tuple[int, int, int]) -> Block:
    """Return rows and columns of a block; a stack of matrices has blocks of one matrix each. Raises NotCertain."""
    whole = isinstance(sizes, list) and all(type(each) is int and each > 0 for each in sizes)
    if whole and len(sizes) == 3 and sizes[0] == 1:
        sizes = sizes[1:]
    if not whole or len(sizes) != 2:
        raise NotCertain(f"its block_size is {sizes}")
    return min(sizes[0], shape[1]), min(sizes[1], shape[2])
