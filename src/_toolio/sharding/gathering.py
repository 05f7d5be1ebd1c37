"""All shards of a folder as one run: nothing is missing, nothing twice, everything made in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of_files
from _toolio.sharding.folder import ShardFolder, markers_in, other_ranges
from _toolio.sharding.marker import Made, Marker, read_marker


class MissingShardsError(ToolError):
    """Shards of a folder are missing.

    Attributes
    ----------
    shards
        Those that are to be made, as `_toolio.streams.shards.parse_shards` reads them.
    total
        How many there are to be.
    """

    def __init__(self, message: str, shards: Sequence[str], total: int) -> None:
        super().__init__(message, kind="missing-shards")
        self.shards, self.total = shards, total


@dataclass(frozen=True, slots=True)
class Gathered:
    """The shards of a folder, all complete.

    Attributes
    ----------
    folder
        The folder.
    markers
        Of each shard, in order.
    """

    folder: ShardFolder
    markers: Sequence[Marker]

    @property
    def made(self) -> Made:
        """What all of them have in common."""
        return self.markers[0].made

    @property
    def exit_status(self) -> int:
        """What one run over all inputs would have returned: 3 comes before 4."""
        return min((marker.exit_status for marker in self.markers if marker.exit_status), default=0)

    def records(self, marker: Marker) -> Path:
        """Return the file of a shard's records."""
        return self.folder.records(marker.number)

    def outputs(self, ending: str) -> list[Path]:
        """Return each shard's file with an ending, in order; empty if the command makes no such files."""
        files = [self.folder.file(marker.number, ending) for marker in self.markers]
        return (
            files if all(file.name in marker.outputs for file, marker in zip(files, self.markers, strict=True)) else []
        )


def open_shards(path: Path) -> Gathered:
    """Check the shards of a folder; every byte of them is read.

    Raises
    ------
    MissingShardsError
        Some are not there, or are not complete.
    ToolError
        The folder holds no shards, or those of several runs; two shards were made otherwise, of other inputs, or of
        the same ones; a file has changed since.
    """
    folder, numbers = _find(path)
    markers = {number: marker for number in numbers if (marker := _complete(folder, number)) is not None}
    if (count := folder.total - len(markers)) > 0:
        missing = other_ranges(markers, folder.total)
        raise MissingShardsError(f"{path}: {count:,} of {folder.total:,} shards are missing", missing, folder.total)
    _check_alike(folder, list(markers.values()))
    _check_inputs(folder, list(markers.values()))
    for marker in markers.values():
        _check_bytes(folder, marker)
    return Gathered(folder, list(markers.values()))


def _find(path: Path) -> tuple[ShardFolder, list[int]]:
    try:
        found = markers_in(path)
    except OSError as error:
        raise ToolError(f"{path}: {(error.strerror or '').lower()}; name a folder of shards", kind="missing") from None
    if not found:
        raise ToolError(f"{path}: holds no shard that is complete", kind="missing")
    if len(found) > 1:
        totals = " and of ".join(f"{total:,}" for total in sorted(found))
        raise ToolError(
            f"{path}: holds shards of {totals}: two runs; move those of one to a folder of their own", kind="mixed"
        )
    ((total, numbers),) = found.items()
    return ShardFolder(path, total), numbers


def _complete(folder: ShardFolder, number: int) -> Marker | None:
    marker = read_marker(folder.marker(number))
    if marker is None or not marker.has_outputs(folder.path):
        return None
    if (marker.number, marker.total) != (number, folder.total):
        raise ToolError(
            f"{folder.marker(number)}: is of shard {marker.number}/{marker.total}; remove it to make {number} again",
            kind="mixed",
        )
    return marker


def _check_alike(folder: ShardFolder, markers: Sequence[Marker]) -> None:
    first = markers[0]
    for marker in markers[1:]:
        if (differs := first.made.difference(marker.made)) is not None:
            name, one, other = differs
            files = f"{folder.marker(first.number)} was made with {name} {one}, {folder.marker(marker.number).name}"
            raise ToolError(f"{files} with {other}; remove one of them and make its shard again", kind="mixed")


def _check_inputs(folder: ShardFolder, markers: Sequence[Marker]) -> None:
    """Check that the shards' inputs are all of one list, each once."""
    seen: dict[str, Marker] = {}
    for marker in markers:
        if marker.inputs.count and (twin := seen.setdefault(marker.inputs.digest, marker)) is not marker:
            raise ToolError(
                f"{folder.marker(twin.number)} and {folder.marker(marker.number).name} were made of the same inputs;"
                " make all again in another folder",
                kind="twice",
            )
    count = sum(marker.inputs.count for marker in markers)
    if other := next((marker for marker in markers if marker.inputs.of not in (None, count)), None):
        raise ToolError(
            f"{folder.path}: its shards have {count:,} inputs together, but {folder.marker(other.number).name} was made"
            f" as a part of {other.inputs.of:,}: they changed meanwhile; make all again in another folder",
            kind="mixed",
        )
    first = markers[0]
    if other := next((marker for marker in markers if marker.inputs.whole != first.inputs.whole), None):
        raise ToolError(
            f"{folder.marker(first.number)} and {folder.marker(other.number).name} were made as parts of two lists of"
            " inputs: some may be missing, or twice; make all again in another folder",
            kind="mixed",
        )


def _check_bytes(folder: ShardFolder, marker: Marker) -> None:
    for name, about in marker.outputs.items():
        if sha256_of_files(folder.path / name) != about["sha256"]:
            raise ToolError(
                f"{folder.path / name}: has changed since it was made; remove {folder.marker(marker.number).name} and"
                f" make shard {marker.number}/{marker.total} again",
                kind="changed",
            )
