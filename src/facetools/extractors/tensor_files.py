"""Save and load arrays in memory with the safetensors library, metadata under this project's one key.

The bytes are those of ``_toolio.tensors.writer``: names of tensors are ASCII here, and each width has one dtype.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from _toolio.errors import ToolError
from _toolio.files.atomic import atomic_write_bytes
from _toolio.tensors.dtypes import FORMAT_NAMES
from _toolio.tensors.reader import open_safetensors
from _toolio.tensors.writer import METADATA_KEY


def save_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write arrays to a safetensors file that is complete or absent, the same bytes for the same input.

    Parameters
    ----------
    path
        The file to make or to replace.
    tensors
        Arrays of any shape by name.
    metadata
        Anything JSON can say, without NaN: one key, sorted JSON. With several keys the library's bytes differ from
        run to run.

    Raises
    ------
    ToolError
        Kind ``unwritable``: no such folder, no permission, no space.
    """
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    # Not save_file: it gives the file a mode of its own, which only its owner can read.
    atomic_write_bytes(path, save(arrays, {METADATA_KEY: text}))


def load_array(path: Path, name: str) -> npt.NDArray[Any]:
    """Load one tensor of a safetensors file into memory, without importing torch.

    Raises
    ------
    ToolError
        The file is damaged, has no such tensor, or numpy lacks its dtype.
    """
    with open_safetensors(path) as header:
        if (entry := header.entries.get(name)) is None:
            raise ToolError(f"{path}: no tensor {name}", kind="no-tensor")
        if entry.dtype not in FORMAT_NAMES.values():
            raise ToolError(f"{path}: cannot read dtype {entry.dtype} of {name}", kind="unknown-dtype")
    try:
        with safe_open(path, framework="numpy") as file:
            array: npt.NDArray[Any] = file.get_tensor(name)
    except SafetensorError as error:  # bytes that belong to no tensor, which the reader here passes over
        why = str(error).rpartition(": ")[2]
        raise ToolError(f"{path}: bad header: {why}; save the file again", kind="bad-header") from None
    return array
