"""bitsandbytes' 4-bit weights: nf4 and fp4 in blocks, their scales quantized once more or not. arXiv 2305.14314."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from _toolio.json_text import parse_json
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.quantized.layout import Layout, NotCertain, Weight
from berttools.checkpoints.quantized.tensors import BlockwiseTensor, Float64s

_STATE = ".quant_state.bitsandbytes__"
_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


def find_bitsandbytes(layout: Layout) -> Iterator[Weight]:
    """Yield the weights that a packed quant_state stands beside."""
    for state in layout.tensors:
        own, _, kind = state.partition(_STATE)
        if not kind or own not in layout.tensors:
            continue
        parts = [state, *(f"{own}.{part}" for part in _PARTS)]
        try:
            said = _said(layout, own, state, kind)
            yield layout.weight(own, own, said["shape"], _blockwise(layout, own, said), parts)
        except NotCertain as why:
            yield layout.refused(own, own, str(why), parts)


def _said(layout: Layout, own: str, state: str, kind: str) -> Mapping[str, Any]:
    """Return the JSON that a tensor of bytes holds, checked against what stands beside it. Raises NotCertain."""
    if layout.tensors[state].dtype != "U8":
        raise NotCertain(f"{state} is {layout.tensors[state].dtype}, no bytes")
    try:
        said = parse_json(layout.array(state).tobytes())
        shape, block = tuple(said["shape"]), said["blocksize"]
        nested = said["nested_blocksize"] if f"{own}.nested_absmax" in layout.tensors else None
        whole = all(type(each) is int and each > 0 for each in (*shape, block, 1 if nested is None else nested))
        offset = float(said["nested_offset"]) if nested else 0.0
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise NotCertain(f"{state} does not say shape and size of blocks") from error
    if not math.isfinite(offset):
        raise NotCertain(f"{state} says nested_offset {offset}")
    if kind not in ("nf4", "fp4") or said.get("quant_type") != kind or not whole or not shape:
        raise NotCertain(f"{state} says {said.get('quant_type')!r} of shape {list(shape)}")
    return {"shape": shape, "block": block, "nested": nested, "offset": offset}


def _blockwise(layout: Layout, own: str, said: Mapping[str, Any]) -> Callable[[], FlatTensor]:
    """Return what makes a weight. Raises NotCertain."""
    absmax, table, outer, outer_table = (f"{own}.{part}" for part in _PARTS)
    stored, count = layout.tensors[own], math.prod(said["shape"])
    width = {"U8": 1, "I8": 1, "BF16": 2, "F16": 2, "F32": 4}.get(stored.dtype, 0)
    if stored.size * width != -(-count // 2) or (len(stored.shape) > 1 and stored.shape[0] == 1 < stored.size):
        raise NotCertain(f"its shape {list(stored.shape)} is not that of {count} codes, two a byte")
    blocks, nested = -(-count // said["block"]), said["nested"]
    sizes = {absmax: blocks, table: 16}
    sizes |= {outer: -(-blocks // nested), outer_table: 256} if nested else {}
    for name, size in sizes.items():
        if name not in layout.tensors or layout.tensors[name].size != size:
            raise NotCertain(f"{name} is not {size} numbers")
    if layout.tensors[absmax].dtype != ("U8" if nested else "F32"):
        raise NotCertain(f"{absmax} is {layout.tensors[absmax].dtype}")

    def make() -> FlatTensor:
        inner = layout.flat(absmax)
        if not nested:
            return _tensor(lambda first, last: inner.values(first, last).astype(np.float64))
        meaning, scales = layout.array(outer_table).reshape(-1).astype(np.float64), layout.flat(outer)

        def twice(first: int, last: int) -> Float64s:
            low = first // nested
            held = scales.values(low, -(-last // nested)).astype(np.float64)
            of_block = np.arange(first, last) // nested - low
            found: Float64s = meaning[inner.values(first, last)] * held[of_block] + said["offset"]
            return found

        return _tensor(twice)

    def _tensor(scales: Callable[[int, int], Float64s]) -> FlatTensor:
        codes = layout.array(table).reshape(-1).astype(np.float64)
        return BlockwiseTensor(layout.stored_bytes(own), codes, said["block"], scales)

    return make
