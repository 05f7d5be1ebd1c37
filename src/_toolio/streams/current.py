"""The shard that is being made, for what lists a command's inputs and names its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from _toolio.errors import UsageError, param
from _toolio.streams.shards import file_of_shard

if TYPE_CHECKING:
    from _toolio.streams.inputs import Item


@dataclass(frozen=True, slots=True)
class Whole:
    """All inputs that a run divides among its shards.

    Attributes
    ----------
    count
        How many there are; None where no shard lists all.
    digest
        Sha256 of their names in order, in hexadecimal: a list of as many others is divided otherwise.
    """

    count: int | None
    digest: str


def whole_of(names: Iterable[str]) -> Whole:
    """Return what tells all inputs from other ones, by their names, which are passed over once and not kept."""
    from hashlib import sha256

    digest, count = sha256(), 0
    for name in names:
        count += 1
        digest.update(name.encode("utf-8", "backslashreplace") + b"\0")
    return Whole(count, digest.hexdigest())


class Making(Protocol):
    """A shard that is being made: see `_toolio.sharding.run`."""

    def take_inputs(self, items: list[Item], *, of: Whole | None) -> None:
        """Take note of what it is made of, the first time; raise if it has been made, or of others."""

    def add_output(self, ending: str) -> Path:
        """Return its file with an ending, which is written besides its records."""


running: ContextVar[Making | None] = ContextVar("running", default=None)


def is_in_a_folder_of_shards() -> bool:
    """Test whether a shard of a folder of shards is being made."""
    return running.get() is not None


def noted(items: list[Item] | Iterator[Item], *, of: Callable[[], Whole] | None) -> list[Item] | Iterator[Item]:
    """Tell the shard that is being made, if one is, what it is made of; return the same items.

    Parameters
    ----------
    items
        The shard's inputs. Inside a shard a list of them is returned: they are looked at before the first is handled.
    of
        Returns what all shards have together; None where this one does not know.

    Raises
    ------
    ShardCompleteError, UsageError
        As of `_toolio.sharding.run.ShardRun.take_inputs`.
    """
    run = running.get()
    if run is None:
        return items
    listed = list(items)
    run.take_inputs(listed, of=of() if of else None)
    return listed


def output_of_shard(out: Path | None, shard: tuple[int, int], ending: str, *, force: bool) -> tuple[Path, bool]:
    """Return the file that a command writes besides its records, and whether it may replace one.

    Parameters
    ----------
    out
        What the command's caller names; None inside a folder of shards, where it is the shard's.
    shard
        (K, N).
    ending
        Of the shard's file.
    force
        Files that exist may be replaced. One of a shard that is not complete may in any case.

    Raises
    ------
    UsageError
        There is a folder of shards and a name, or neither.
    """
    run = running.get()
    if (out is None) == (run is None):
        raise UsageError(f"name {param('out')}, or {param('into')} with a folder of shards: one of them")
    if run is None:
        assert out is not None
        return file_of_shard(out, shard), force
    return run.add_output(ending), True
