"""What tells whether the inputs of a shard are those that it was made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _toolio.streams.current import Whole
    from _toolio.streams.inputs import Item


@dataclass(frozen=True, slots=True)
class ShardInputs:
    """The inputs of a shard.

    Attributes
    ----------
    count
        How many there are.
    of
        How many all shards have together; None where a shard does not know.
    digest
        Sha256 of the list, in hexadecimal.
    whole
        That of the names of all that is divided, which all shards have in common; None where a shard does not know.
    """

    count: int
    of: int | None
    digest: str
    whole: str | None = None


def inputs_of(items: Iterable[Item], *, of: Whole | None) -> ShardInputs:
    """Return what tells these inputs from others; they are passed over once and not kept.

    The digest covers the order, each path, the record that named it, and size and time of change of its file, or of the
    archive that it lies in. It does not cover the bytes: reading them is much of the work that it is to spare. What is
    no file of this machine, such as a URL, counts by its name.
    """
    digest, count = hashlib.sha256(), 0
    for item in items:
        count += 1
        entry = [item.path, item.relative, item.record, _stamp(item.path)]
        digest.update(json.dumps(entry, sort_keys=True).encode() + b"\n")
    whole = (None, None) if of is None else (of.count, of.digest)
    return ShardInputs(count, whole[0], digest.hexdigest(), whole[1])


def _stamp(path: str) -> tuple[int, int] | None:
    """Return size in bytes and time of change in ns of a file; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path of each of millions would take longer than the call
    except NotADirectoryError:
        return _stamp_of_archive(_archive_of(path))
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _archive_of(path: str) -> str:
    """Return the file that a path leads through as if it were a folder."""
    return next((str(above) for above in PurePath(path).parents if os.path.isfile(above)), "")  # noqa: PTH113


@lru_cache(maxsize=64)
def _stamp_of_archive(archive: str) -> tuple[int, int] | None:
    """Return the stamp of an archive, looked up once for its many members."""
    return _stamp(archive) if archive else None
