"""Options of ``berttools layerdiff``: which tensors, and what is drawn as they are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from _toolio.cli.messages import complain
from _toolio.cli.progress import track
from _toolio.errors import UsageError
from _toolio.streams.records import Record
from _toolio.words import many
from berttools.layerdiff import Selection

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint
    from berttools.layerdiff.diffs import TensorDiff


class Baseline(StrEnum):
    """What the base is compared with besides."""

    random_init = "random-init"


def expression(text: str | None) -> str | None:
    """Refuse what is no regular expression."""
    try:
        re.compile(text or "")
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is no regular expression: {error}") from None
    return text


def selection_of(
    only: str | None, group: str | None, group_map: Path | None, strip_prefix: Sequence[str], *, matrices: bool
) -> Selection:
    """Return what the options select.

    Raises
    ------
    UsageError
        An unknown group, or a file of groups that is none.
    """
    from berttools.checkpoints.groups import Grouping, read_group_map

    grouping = read_group_map(group_map) if group_map else Grouping()
    wanted = frozenset(filter(None, (name.strip() for name in (group or "").split(","))))
    if unknown := sorted(wanted - set(grouping.names)):
        raise UsageError(f"--group {unknown[0]}: no such group; there are {', '.join(grouping.names)}")
    if group is not None and not wanted:
        raise UsageError(f"--group: name one of {', '.join(grouping.names)}")
    if matrices and group is None:
        wanted = frozenset(grouping.names)
    return Selection(grouping, re.compile(only) if only else None, wanted, tuple(strip_prefix))


def complain_of(record: Record) -> None:
    """Say on stderr that most tensors of a pair were not compared, if a record says so."""
    error = record.get("error") or {}
    if error.get("kind") == "few-matched":
        complain("berttools", error["message"])


def watch(base: Checkpoint, ft: Checkpoint, diffs: Iterator[TensorDiff]) -> Iterator[TensorDiff]:
    """Show the progress of one comparison."""
    del ft
    return track(diffs, "comparing", len(base.tensors))


class Tally:
    """Numbers of records, how many are of what is unchanged, and which moved most."""

    def __init__(self) -> None:
        self._records = self._unchanged = 0
        self._by, self._most = "", (0.0, "")

    def add(self, record: Record) -> None:
        """Count a record."""
        angle, self._by = record.get("angle"), str(record.get("by"))
        if angle is None:
            return
        self._records += 1
        self._unchanged += angle == 0
        name = record.get("name") or record.get("group") or record.get("layer")
        self._most = max(self._most, (angle, str(record.get("by") if name is None else name)))

    def line(self, failed: int) -> str:
        """Return one line: records, how many are unchanged, the largest angle."""
        parts = [f"{many(self._records, self._by)}, {self._unchanged:,} unchanged"]
        parts += [f"the largest angle {self._most[0]:.4g} of {self._most[1]}"] if self._most[0] else []
        parts += [f"{failed:,} failed"] if failed else []
        return "; ".join(parts)
