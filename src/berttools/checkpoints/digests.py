"""Digests of tensors, of a whole base and of its tokenizer; those of tensors kept between runs, if a file is named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from _toolio.errors import ToolError
from _toolio.files.atomic import atomic_write_bytes
from _toolio.json_text import parse_json
from _toolio.tensors.dtypes import DTYPE_BYTES
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.model_folder import tokenizer_files

_CHUNK = 1 << 20  # values in memory at a time

DIGESTS = "berttools.digests/1"
"""Schema of a file of a `DigestCache`."""
_MOST_CACHE_BYTES = 1 << 28
_SETTLED_NS = 2_000_000_000
"""How long ago a file must have changed last: a change within one tick of the file system's clock shows in no time."""


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


class DigestCache:
    """Digests of a checkpoint's tensors, of which those of earlier runs are in a file that the user named.

    A digest that is there counts while the tensor's file is the same: device, inode, size, and the times of the last
    change of its bytes and of its inode, in nanoseconds. Unlike the first of these times, no program can set the second
    one back. Whoever can write the cache can have another base taken for this one.

    Parameters
    ----------
    path
        The cache, which `write` makes if it does not exist; None to keep nothing.
    base
        The checkpoint, of which no tensor has been read yet.

    Raises
    ------
    ToolError
        Kind ``"bad-cache"``: a file is there that is no cache.
    """

    def __init__(self, path: Path | None, base: Checkpoint) -> None:
        self._path, self._base, self._found = path, base, dict[str, str]()
        self._opened_ns = time.time_ns()
        if path is None:
            return
        self._files = {file: _identity(file) for file in {stored.path for stored in base.tensors.values()}}
        entries = _read_cache(path)
        for file, identity in self._files.items():
            entry = entries.get(_key(identity), {})
            if entry.get("identity") == identity:
                names = {name for name, stored in base.tensors.items() if stored.path == file}
                self._found |= {name: sha256 for name, sha256 in entry["tensors"].items() if name in names}
        self._known = frozenset(self._found)

    def tensor_digest(self, name: str) -> str:
        """Return `tensor_digest` of a tensor, taken only if it is not known. Thread-safe."""
        if (found := self._found.get(name)) is None:
            found = self._found[name] = tensor_digest(self._base, name)
        return found

    def write(self) -> None:
        """Write what was found to the cache, with what is there by now; nothing if nothing is new.

        Of a file that has changed since the cache was opened, or shortly before, nothing is kept.

        Raises
        ------
        ToolError
            It cannot be written.
        """
        if self._path is None or self._found.keys() == self._known:
            return
        entries = _read_cache(self._path)
        for file, identity in self._files.items():
            if identity != _identity(file) or self._opened_ns - max(identity[3:]) < _SETTLED_NS:
                continue
            tensors = {name: each for name, each in self._found.items() if self._base.tensors[name].path == file}
            entry = entries.get(_key(identity), {})
            before = entry["tensors"] if entry.get("identity") == identity else {}
            entries[_key(identity)] = {
                "path": os.fsdecode(os.path.realpath(file)), "identity": identity, "tensors": {**before, **tensors},
            }  # fmt: skip
        text = json.dumps({"schema": DIGESTS, "files": entries}, indent=1, sort_keys=True) + "\n"
        atomic_write_bytes(self._path, text.encode())


def _identity(file: Path) -> list[int]:
    """Return device, inode, size, and times of change of a file's bytes and of its inode, in ns since 1970."""
    status = file.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _key(identity: list[int]) -> str:
    return f"{identity[0]}:{identity[1]}"


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a cache knows of each file; nothing where there is no cache yet."""
    if not path.exists():
        return {}
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        if path.is_file() and path.stat().st_size <= _MOST_CACHE_BYTES:
            found = parse_json(path.read_bytes())
            if found["schema"] == DIGESTS and all(_is_entry(each) for each in found["files"].values()):
                files: dict[str, dict[str, Any]] = found["files"]
                return files
    raise ToolError(f"{path}: is no cache of digests that can be read; name another file", kind="bad-cache")


def _is_entry(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry["identity"], list) and all(
        isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each) for each in entry["tensors"].values()
    )
