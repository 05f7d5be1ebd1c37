"""Where the files of each shard lie: ``0003-of-0100.jsonl``, its marker ``0003-of-0100.done``, other outputs beside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_MARKER = re.compile(r"([0-9]{4,})-of-([0-9]{4,})\.done")

RECORDS, DONE = ".jsonl", ".done"


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of the shards of one run.

    Attributes
    ----------
    path
        The folder.
    total
        Into how many shards the run is divided.
    """

    path: Path
    total: int

    def file(self, number: int, ending: str) -> Path:
        """Return the file of a shard with an ending; names in sorted order are shards in order."""
        width = max(4, len(str(self.total)))
        return self.path / f"{number:0{width}}-of-{self.total:0{width}}{ending}"

    def records(self, number: int) -> Path:
        """Return the file of a shard's records."""
        return self.file(number, RECORDS)

    def marker(self, number: int) -> Path:
        """Return the file that says that a shard is whole."""
        return self.file(number, DONE)


def markers_in(folder: Path) -> dict[int, list[int]]:
    """Return the numbers of the shards that have a marker, sorted, by how many shards there are to be.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    found: dict[int, list[int]] = {}
    for path in sorted(folder.iterdir()):
        if (match := _MARKER.fullmatch(path.name)) is not None:
            number, total = map(int, match.groups())
            if 1 <= number <= total and path == ShardFolder(folder, total).marker(number):
                found.setdefault(total, []).append(number)
    return {total: sorted(numbers) for total, numbers in found.items()}


def in_ranges(numbers: Iterable[int], total: int) -> list[str]:
    """Return shards as `_toolio.streams.shards.parse_shards` reads them: ``["3/100", "7-9/100"]``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [_run(first, last, total) for first, last in runs]


def other_ranges(numbers: Iterable[int], total: int) -> list[str]:
    """Return all shards but some, as `in_ranges` does; a total that somebody made up costs no time."""
    ends = [0, *sorted(numbers), total + 1]
    return [_run(before + 1, after - 1, total) for before, after in pairwise(ends) if after - before > 1]


def _run(first: int, last: int, total: int) -> str:
    return f"{first}/{total}" if first == last else f"{first}-{last}/{total}"
