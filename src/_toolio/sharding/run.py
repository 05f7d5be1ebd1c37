"""One shard that is being made: its records go into its file, and the marker follows when all is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any

from _toolio.errors import UsageError, param
from _toolio.files.atomic import atomic_path
from _toolio.files.claims import claimed
from _toolio.files.hashing import sha256_of_files
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.inputs import ShardInputs, inputs_of
from _toolio.sharding.marker import Made, Marker, read_marker, write_marker
from _toolio.streams.current import Whole, running
from _toolio.streams.inputs import Item
from _toolio.streams.records import Output


class ShardCompleteError(Exception):
    """The shard has been made already, by the same command of the same inputs."""

    def __init__(self, marker: Marker) -> None:
        super().__init__(marker)
        self.marker = marker


@dataclass(slots=True)
class ShardRun:
    """The run that makes one shard.

    Attributes
    ----------
    folder, number
        Which shard, and where it goes.
    made
        What all shards of the folder have in common.
    inputs
        What the shard is made of, once that is known.
    outputs
        Its files besides the records.
    """

    folder: ShardFolder
    number: int
    made: Made
    inputs: ShardInputs | None = None
    outputs: list[Path] = field(default_factory=list)

    def known(self) -> Marker | None:
        """Return what an earlier run says of this shard; None if it is to be made.

        Raises
        ------
        UsageError
            It was made by another command or version, or with other options.
        """
        path = self.folder.marker(self.number)
        marker = read_marker(path)
        if marker is None or not marker.has_outputs(self.folder.path):
            return None
        if (differs := marker.made.difference(self.made)) is not None:
            name, was, now = differs
            made = f"{path} was made with {name} {was}, not {now}"
            raise UsageError(f"{param('into')}: {made}; name another folder, or remove this one to make all again")
        return marker

    def take_inputs(self, items: list[Item], *, of: Whole | None) -> None:
        """Take note of what the shard is made of; a second list is not what is divided.

        Parameters
        ----------
        items
            Its inputs.
        of
            What all shards have together; None where that is not known.

        Raises
        ------
        ShardCompleteError
            The shard has been made of them.
        UsageError
            It has been made of others.
        """
        if self.inputs is not None:
            return
        self.inputs = inputs_of(items, of=of)
        if (marker := self.known()) is not None:
            self.check(self.inputs, marker)
            raise ShardCompleteError(marker)

    def add_output(self, ending: str) -> Path:
        """Return the shard's file with an ending, which is written besides its records."""
        self.outputs.append(self.folder.file(self.number, ending))
        return self.outputs[-1]

    def check(self, inputs: ShardInputs, marker: Marker) -> None:
        """Raise UsageError if the shard was made of other inputs than these."""
        if marker.inputs != inputs:
            made = f"{self.folder.marker(self.number)} was made of {_difference_of(marker.inputs, inputs)}"
            raise UsageError(f"{param('into')}: {made}; name another folder, or remove that file to make it again")


def _difference_of(was: ShardInputs, now: ShardInputs) -> str:
    if was.of != now.of and was.of is not None and now.of is not None:
        return f"{was.of:,} inputs in all, not {now.of:,}"
    return "other inputs, or they have changed since"


class _Hashing(BufferedWriter):
    """A file that is hashed as it is written."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self.digest = hashlib.sha256()

    def write(self, data: Any, /) -> int:
        self.digest.update(data)
        return super().write(data)


@contextmanager
def making(run: ShardRun, output: Output) -> Iterator[list[int]]:
    """Claim a shard, write the block's records into its file, and leave its marker if the block ends well.

    Parameters
    ----------
    run
        The shard.
    output
        How records are written: they go into the shard's file inside the block.

    Yields
    ------
    list of int
        To be filled with the exit status of the run.

    Raises
    ------
    BusyError
        Another run is making it.
    ShardCompleteError, UsageError
        As of `ShardRun.take_inputs`, out of the block.
    """
    records, marker = run.folder.records(run.number), run.folder.marker(run.number)
    status: list[int] = []
    with claimed(records, replace=True, named=param("into")):
        before = output.records, output.failures
        with atomic_path(records) as temp, _Hashing(temp.open("wb", buffering=0)) as stream:
            token, output.stream = running.set(run), stream
            try:
                yield status
            finally:
                output.stream = None
                running.reset(token)
            # Never beside other outputs than those that it speaks of.
            marker.unlink(missing_ok=True)
        assert run.inputs is not None, "a command with shards tells what its inputs are"
        outputs = {records.name: {"bytes": records.stat().st_size, "sha256": stream.digest.hexdigest()}}
        outputs |= {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of_files(path)} for path in run.outputs}
        write_marker(
            marker,
            Marker(
                number=run.number,
                total=run.folder.total,
                made=run.made,
                inputs=run.inputs,
                records=output.records - before[0],
                failures=output.failures - before[1],
                exit_status=status[0],
                outputs=outputs,
            ),
        )
