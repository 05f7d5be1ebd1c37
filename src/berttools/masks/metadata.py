"""Metadata of mask files: digests, sizes, and the checks that refuse a file that is damaged or that no command wrote.

A mask may come from anybody, with digests that are right: whatever is read of it later is checked here first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.header import is_count
from _toolio.tensors.reader import SafetensorsFile, read_metadata
from berttools.checkpoints.digests import combined_digest
from berttools.checkpoints.model_folder import DELTA
from berttools.masks import Code, coding

MASK = "berttools.mask/1"
"""Schema of a mask file."""
CODES = tuple(code.value for code in Code)
_MOST_ENTRIES = 1 << 33
"""Of a matrix: twice the largest embeddings that there are."""


def canonical_json(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as the JSON that their own sha256 is taken of: compact, keys sorted, no NaN."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def array_sha256(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's dtype, shape and little-endian values."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    head = json.dumps([little.dtype.str, list(array.shape)]).encode()
    return sha256_of(head + little.tobytes())


def matrices_sha256(matrices: Mapping[str, Any], key: str) -> str:
    """Return one sha256 of the digest ``key`` of every matrix, by the model's names."""
    return combined_digest({name: each[key] for name, each in matrices.items()})


def figures_of(
    matrices: Mapping[str, Any], coded: Mapping[str, NDArray[Any]], dense: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return sizes and sparsity of a mask, as `berttools.masks.writer.write_mask` does, without ``path`` and ``bytes``.

    Parameters
    ----------
    matrices
        The metadata of each masked matrix.
    coded, dense
        The tensors of the file.
    """
    weights = sum(math.prod(each["shape"]) for each in matrices.values())
    zeroed = sum(each["zeroed"] for each in matrices.values())
    return {
        "mask_bytes": sum(array.nbytes for array in coded.values()),
        "dense_bytes": sum(array.nbytes for array in dense.values()),
        "matrices": len(matrices),
        "weights": weights,
        "zeroed": zeroed,
        "sparsity": zeroed / max(1, weights),
        "code": "+".join(sorted({each["code"] for each in matrices.values()})),
        "masked_sha256": matrices_sha256(matrices, "base_sha256"),
    }


def is_mask(path: Path) -> bool:
    """Test whether a file says that it is a mask; nothing but its header is read."""
    try:
        return path.is_file() and read_metadata(path).get("schema") == MASK
    except (ToolError, OSError):
        return False


def read_mask_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a mask file, unchecked but for their schema.

    Raises
    ------
    ToolError
        Kind ``"not-a-mask"``: how to mend a file that never was a mask is of no use. Others as of `open_safetensors`.
    """
    none = ToolError(f"{path}: is no mask; berttools mask-tune writes one", kind="not-a-mask")
    if path.is_dir():
        raise none
    try:
        metadata = read_metadata(path)
    except ToolError as error:
        if error.kind == "not-safetensors":
            raise none from error
        raise
    if metadata.get("schema") == DELTA:
        raise ToolError(f"{path}: is a delta, not a mask; use berttools apply-delta", kind="not-a-mask")
    if metadata.get("schema") != MASK:
        raise none
    return metadata


def damaged(path: Path, what: str) -> ToolError:
    """Return the error of a file of which ``what`` (with its verb) is not as it was written."""
    return ToolError(f"{path}: damaged: {what} not what was written; copy it again", kind="bad-mask")


def check_metadata(file: SafetensorsFile, metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that no command writes, and tensors that are not those of the metadata.

    Raises
    ------
    ToolError
        Kind ``"bad-mask"``.
    KeyError, TypeError, AttributeError, ValueError, RecursionError
        Something is missing or of another type: whoever opens the file says that its metadata are damaged.
    """
    _check_stored(file, metadata)
    for name, entry in metadata["matrices"].items():
        _check_matrix(name, entry, file)
    _check_rest(metadata)


def _check_stored(file: SafetensorsFile, metadata: Mapping[str, Any]) -> None:
    """Refuse a file whose tensors are not those of its metadata."""
    names = file.entries.keys()
    if names != metadata["stored_sha256"].keys() or not metadata["matrices"].keys() <= names:
        raise damaged(file.path, "the names of its tensors are")
    for name, sha256 in metadata["stored_sha256"].items():
        if array_sha256(file.tensor(name)) != sha256:
            raise damaged(file.path, f"{name} is")


def _check_matrix(name: str, entry: Mapping[str, Any], file: SafetensorsFile) -> None:
    """Refuse what no command writes of a matrix: digests may be right and say of nonsense that it is whole."""
    shape, zeroed, stored = entry["shape"], entry["zeroed"], file.entries[name]
    if not (
        isinstance(shape, list)
        and len(shape) >= 2
        and all(map(is_count, shape))
        and is_count(zeroed)
        and zeroed <= math.prod(shape) <= _MOST_ENTRIES
        and entry["code"] in CODES[1:]
        and all(_is_sha256(entry[key]) for key in ("base_sha256", "bits_sha256"))
        and stored.dtype == "U8"
        and len(stored.shape) == 1
        and isinstance(entry.get("base_name", name), str)
    ):
        raise damaged(file.path, f"what it says of {name} is")
    if not coding.can_hold(entry["code"], file.tensor(name), math.prod(shape), zeroed):
        raise damaged(file.path, f"the code of {name} is")


def _check_rest(metadata: Mapping[str, Any]) -> None:
    """Refuse what could not be written beside a model, or not be read back."""
    if not isinstance(metadata["config"], str) or not isinstance(metadata["made"], dict):
        raise TypeError("config is no text, or made is no object")
    json.dumps(metadata, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    others, tokenizer = metadata.get("others"), metadata.get("tokenizer_sha256")
    if others is not None and not (_are_others(others["names"], metadata) and _is_sha256(others["sha256"])):
        raise ValueError("others are no tensors of the base")
    if tokenizer is not None and not _is_sha256(tokenizer):
        raise ValueError("the tokenizer's digest is none")


def _are_others(names: object, metadata: Mapping[str, Any]) -> bool:
    """Test whether these can be names of tensors that are not in the file."""
    return (
        isinstance(names, list)
        and all(isinstance(name, str) and name not in metadata["stored_sha256"] for name in names)
        and len(set(names)) == len(names)
    )


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
