"""Write mask files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.files.hashing import sha256_of
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.digests import combined_digest, tensor_digest, tokenizer_of
from berttools.checkpoints.files import Checkpoint
from berttools.masks import coding
from berttools.masks.base import names_in_base, other_tensors
from berttools.masks.coding import Bools
from berttools.masks.metadata import CODES, MASK, array_sha256, canonical_json, figures_of


def write_mask(
    out: Path,
    keeps: Mapping[str, Bools],
    tensors: Mapping[str, NDArray[Any]],
    config: str,
    base: Checkpoint,
    made: Mapping[str, Any],
    *,
    code: str = "auto",
    others: Mapping[str, str] | None = None,
    tokenizer_sha256: str | None = None,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write a mask file, whole or not at all: the same bytes for the same input.

    Parameters
    ----------
    out
        The file.
    keeps
        By the names of the model's state dict: bool, of the matrix's shape, True where an entry stays.
    tensors
        What is stored as it is: the head, and all else that differs from the base.
    config
        The text of config.json.
    base
        What the mask is laid over.
    made
        How: anything that JSON can say.
    code
        One of `CODES`; ``auto`` takes the smallest, for each matrix.
    others
        What else the model uses of the base, as of `names_in_base`; by default all that it has besides.
    tokenizer_sha256
        As of `tokenizer_digest`; by default the base's, where it has a tokenizer.
    digests
        By the base's names: `tensor_digest` of what was read before, as `check_base` collects them.

    Returns
    -------
    dict
        ``path``, ``bytes`` (of the file), ``mask_bytes``, ``dense_bytes``, ``matrices``, ``weights`` (masked entries),
        ``zeroed``, ``sparsity`` (0 to 1), ``code`` (those used, joined by +) and ``masked_sha256`` (of the base's
        masked matrices).

    Raises
    ------
    ToolError
        The base lacks a matrix, or the file cannot be written.
    ValueError
        A name is in both, or the code is unknown.
    """
    if code not in CODES or keeps.keys() & tensors.keys():
        raise ValueError(f"code {code!r}, or a tensor that is masked and dense")
    names = names_in_base(base, {name: keep.shape for name, keep in keeps.items()}, base.path)
    coded, matrices = {}, {}
    for name, keep in keeps.items():
        chosen, coded[name] = _coded(keep, base, names[name], code)
        matrices[name] = {
            "code": chosen,
            "shape": list(keep.shape),
            "zeroed": keep.size - int(np.count_nonzero(keep)),
            "base_sha256": digests.get(names[name]) or tensor_digest(base, names[name]),
            "bits_sha256": sha256_of(coding.bits_of(keep).tobytes()),
            **({"base_name": names[name]} if names[name] != name else {}),
        }
    stored = {**tensors, **coded}
    metadata: dict[str, Any] = {"schema": MASK, "matrices": matrices, "config": config, "made": made}
    metadata["others"] = _others(base, other_tensors(base, names, tensors) if others is None else others, digests)
    metadata["tokenizer_sha256"] = tokenizer_sha256 or tokenizer_of(base)
    metadata["stored_sha256"] = {name: array_sha256(array) for name, array in stored.items()}
    metadata = json.loads(canonical_json(metadata))  # as it will be read: keys are text
    write_safetensors(out, stored, metadata | {"sha256": sha256_of(canonical_json(metadata))})
    return {"path": out} | figures_of(matrices, coded, tensors) | {"bytes": out.stat().st_size}


def _others(base: Checkpoint, others: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the names of the tensors that are used besides, and one sha256 of them all."""
    found = {name: digests.get(stored) or tensor_digest(base, stored) for name, stored in others.items()}
    return {"names": sorted(others), "sha256": combined_digest(found)}


def _coded(keep: Bools, base: Checkpoint, name: str, code: str) -> tuple[str, NDArray[np.uint8]]:
    """Code one matrix; of several codes the smallest, of equal ones the plainest."""
    flat = base.flat(name)
    wanted = CODES[1:] if code == "auto" else (code,)
    found = {}
    for each in wanted:
        if each == "bits":
            found[each] = coding.bits_of(keep)
        else:
            found[each] = coding.encode(keep, coding.tensor_keys(flat) if each == "conditional" else None)
    flat.release(0, keep.size)
    best = min(wanted, key=lambda each: found[each].size)
    return best, found[best]
