"""Write safetensors files that are whole or absent, with the same bytes for the same input, larger than memory.

The safetensors library reads every file that is written here, and writes the same bytes itself where each width has one
dtype, names are ASCII and there is one key of metadata. It differs where

- several dtypes have one width: the library orders tensors by dtype, these files by width and then by name;
- a name holds other than ASCII: these headers escape it;
- a second key of metadata (``format``) stands beside the first: the library's order changes from run to run.

Files written so far keep their bytes, and so their digests, only if they go on being written here. The library also
takes all tensors at once, where `stream_safetensors` holds one piece: applying a mask or a delta to a base of 8 GB
needs no 8 GB of memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from _toolio.files.atomic import atomic_path
from _toolio.tensors.dtypes import DTYPE_BYTES, FORMAT_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

METADATA_KEY = "epsilon-tools"
"""The one metadata key that is written: with several, their order, and so the bytes, may change."""


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, object] | None = None,
    *,
    format: str | None = None,  # noqa: A002 - the key's own name
) -> None:
    """Write arrays to a file that is whole or absent, the same bytes for the same input.

    Parameters
    ----------
    path
        The file to make or to replace. Its folder must exist.
    tensors
        Name to array of any shape; float16/32/64, signed and unsigned integers, bool.
    metadata
        Anything JSON can say, without NaN. Kept under `METADATA_KEY` as compact JSON with sorted keys.
    format
        Kept under ``format``: transformers opens a model's file only if that says ``pt``.

    Raises
    ------
    ToolError
        Kind ``"unwritable"``: no such folder, no permission, no space.
    TypeError, ValueError
        A dtype that the format lacks; metadata that is not JSON.
    """
    plan = {}
    for name, array in tensors.items():
        dtype = FORMAT_NAMES.get(array.dtype.newbyteorder("<").str)
        if dtype is None:
            raise TypeError(f"cannot store tensor {name!r} of dtype {array.dtype}")
        plan[name] = dtype, array.shape
    stream_safetensors(path, plan, lambda name: [tensors[name]], metadata, format=format)


def write_order(plan: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """Return names in the order in which `stream_safetensors` writes tensors."""
    # Wide values first keeps every tensor aligned to its own size; the name settles the rest.
    return sorted(plan, key=lambda name: (-DTYPE_BYTES[plan[name][0]], name))


def stream_safetensors(
    path: str | os.PathLike[str],
    plan: Mapping[str, tuple[str, tuple[int, ...]]],
    pieces: Callable[[str], Iterable[NDArray[Any]]],
    metadata: Mapping[str, object] | None = None,
    *,
    format: str | None = None,  # noqa: A002 - the key's own name
) -> None:
    """Write a file as `write_safetensors` does, of tensors that need not be in memory.

    Parameters
    ----------
    path, metadata, format
        As of `write_safetensors`.
    plan
        Name to the format's dtype and the shape.
    pieces
        Called with each name once, in `write_order`; returns arrays whose bytes, concatenated, are the tensor's. Each
        is written before the next one is drawn, which may use its memory.

    Raises
    ------
    ToolError, TypeError, ValueError
        As of `write_safetensors`; ValueError where pieces have not as many bytes as planned.
    """
    import numpy as np

    header: dict[str, Any] = {
        "__metadata__": {
            METADATA_KEY: json.dumps(dict(metadata or {}), sort_keys=True, separators=(",", ":"), allow_nan=False),
            **({"format": format} if format else {}),
        }
    }
    if odd := [name for name, (dtype, _) in plan.items() if dtype not in DTYPE_BYTES or name == "__metadata__"]:
        raise TypeError(f"cannot store tensor {odd[0]!r} of dtype {plan[odd[0]][0]}")
    names, end = write_order(plan), 0
    for name in names:
        (dtype, shape), begin = plan[name], end
        end += math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temp, temp.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for piece in pieces(name):
                little = piece.astype(piece.dtype.newbyteorder("<"), copy=False)
                file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
            if file.tell() != 8 + len(text) + header[name]["data_offsets"][1]:
                raise ValueError(f"the pieces of {name!r} have not as many bytes as planned")
