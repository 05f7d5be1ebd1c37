"""Digests of tensors, of a whole base and of its tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from _toolio.tensors.dtypes import DTYPE_BYTES
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.model_folder import tokenizer_files

_CHUNK = 1 << 20  # values in memory at a time


def base_digest(base: Checkpoint) -> str:
    """Return the sha256 of a model's tensors, in hexadecimal: of names, dtypes, shapes and values.

    It does not depend on how they lie in files.
    """
    digest = hashlib.sha256()
    for name, stored in base.tensors.items():
        digest.update(json.dumps([name, stored.dtype, list(stored.shape)]).encode())
        if stored.dtype in DTYPE_BYTES:
            for values in base.chunks(name, _CHUNK):
                digest.update(values.tobytes())
    return digest.hexdigest()


def tensor_digest(base: Checkpoint, name: str) -> str:
    """Return the sha256 of one tensor's dtype, shape and values, whatever its file and its name."""
    stored = base.tensors[name]
    digest = hashlib.sha256(json.dumps([stored.dtype, list(stored.shape)]).encode())
    for values in base.chunks(name, _CHUNK):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return one sha256 of several named digests, in whatever order they are."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tokenizer_digest(base: Path) -> str:
    """Return the sha256 of the tokenizer's files: with another one the same weights mean something else."""
    digest = hashlib.sha256()
    for path in tokenizer_files(base):
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()


def tokenizer_of(base: Checkpoint) -> str | None:
    """Return `tokenizer_digest` of a checkpoint's folder; None where it has no tokenizer."""
    return tokenizer_digest(base.path) if tokenizer_files(base.path) else None
