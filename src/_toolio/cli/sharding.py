"""Run a command on each of the shards that its user names, into a folder of shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from _toolio.errors import UsageError, param, spelled
from _toolio.files.claims import BusyError
from _toolio.files.hashing import sha256_of_files
from _toolio.files.overwriting import refuse_file
from _toolio.sharding.folder import ShardFolder, in_ranges, markers_in
from _toolio.sharding.inputs import ShardInputs
from _toolio.sharding.marker import Made
from _toolio.sharding.run import ShardCompleteError, ShardRun, making
from _toolio.sharding.taking import take_each
from _toolio.streams.inputs import STDIN
from _toolio.streams.records import Form, Output
from _toolio.streams.shards import Shards, parse_shards
from _toolio.version import tool_version
from _toolio.words import many

INPUTS = {"paths", "inputs", "null", "all_files"}
"""Parameters that name inputs: what they come to is in a shard's list of inputs."""

WITHOUT_EFFECT = {"shard", "into", "force", "resume", "device", "batch", "engine", "actors", "gpus_per_actor"}
"""Parameters that change where and how fast a shard is made, and nothing that it says."""

NAMES = {"out", "clean", "cloaked", "preview", "grid", "save_mask"}
"""Parameters that name what is written, or inputs: files of these names are not looked into."""


@dataclass(slots=True)
class _Worker:
    """A process that makes shards.

    Attributes
    ----------
    command, given
        The command's function and its arguments.
    tell
        Says a line to people.
    output
        How records are written.
    folder, shards, made
        Where the shards go, which ones are asked for, what they have in common.
    seen
        The inputs of a shard that has been looked at, once one has: how all are divided is the same for each.
    statuses
        Exit status of each shard that was made, or was asked for by its number and is whole.
    done
        How many shards were made.
    """

    command: Callable[..., int]
    given: Mapping[str, Any]
    tell: Callable[[str], None]
    output: Output
    folder: ShardFolder
    shards: Shards
    made: Made
    seen: ShardInputs | None = None
    statuses: list[int] = field(default_factory=list)
    done: int = 0

    def make(self, number: int) -> None:
        """Make a shard, unless it is whole."""
        run = ShardRun(self.folder, number, self.made)
        # That all of the inputs are the same is seen from one shard, and not looked up for each that others made.
        seen = self.seen
        if self.shards.unfinished and seen and seen.of is not None and (marker := run.known()) is not None:
            run.check(replace(marker.inputs, of=seen.of, whole=seen.whole), marker)
            return
        try:
            with making(run, self.output) as status:
                status.append(self.command(**self.given, shard=f"{number}/{self.folder.total}") or 0)
        except ShardCompleteError as complete:
            if not self.shards.unfinished:
                self.statuses.append(complete.marker.exit_status)
                shard = f"shard {number}/{self.folder.total}"
                self.tell(f"{shard} is complete, and left as it is: {self.folder.records(number)}")
        else:
            self.done += 1
            self.statuses.append(status[0])
        self.seen = run.inputs or self.seen

    def check_others(self) -> None:
        """Refuse, before anything is made, to add to shards that were made otherwise; one speaks for all."""
        found = markers_in(self.folder.path) if self.folder.path.is_dir() else {}
        for total in found.keys() - {self.folder.total}:
            raise UsageError(
                f"{param('into')} {self.folder.path}: holds shards of {total}, and not of {self.folder.total}; "
                f"go on with {param('shard')} .../{total}, or name another folder"
            )
        if complete := found.get(self.folder.total):
            ShardRun(self.folder, complete[0], self.made).known()
            if self.shards.unfinished:
                with suppress(BusyError):  # another worker that has just begun looks at it, too
                    self.make(complete[0])

    def make_all(self) -> list[int]:
        """Make all that are asked for; return those that runs on other machines hold."""
        self.check_others()
        if self.shards.is_one:
            self.make(self.shards.numbers[0])
            return []

        def waits(numbers: list[int]) -> None:
            self.tell(f"waits for shards that other runs are making: {_listed(numbers, self.shards.total)}")

        return take_each(self.folder, self.shards.numbers, self.make, on_waiting=waits)

    def exit_status(self) -> int:
        """Return 0 if all is well, else the first that other runs would return, too: 3 comes before 4."""
        return min((status for status in self.statuses if status), default=0)


def run_shards(
    command: Callable[..., int], given: Mapping[str, Any], output: Output, tell: Callable[[str], None]
) -> int:
    """Run a command once for each shard that ``given["shard"]`` names; return the exit status of all.

    Parameters
    ----------
    command
        The command's function; its shards lie in the folder ``given["into"]``.
    given
        Its arguments by name.
    output
        How records are written.
    tell
        Says a line to people.

    Raises
    ------
    UsageError
        Options contradict each other, or a shard is there already that was made otherwise.
    """
    tool = command.__module__.partition(".")[0]
    shards = parse_shards(given["shard"])
    _check(given, shards, output)
    refuse_file(given["into"], param("into"))
    arguments = {name: value for name, value in given.items() if name not in ("into", "shard")}
    if "resume" in arguments:
        # A shard is taken up where the run that was to make it has stopped.
        arguments["resume"] = arguments["resume"] or not arguments.get("force")
    named = f"{tool} {command.__name__.replace('_', '-')}"
    made = Made(named, tool_version(), options_of(given))
    worker = _Worker(command, arguments, tell, output, ShardFolder(given["into"], shards.total), shards, made)
    try:
        held = worker.make_all()
    except (KeyboardInterrupt, SystemExit):
        if worker.done:
            tell(f"stopped after {many(worker.done, 'shard')}; the same command goes on")
        raise
    if held:
        tell(f"not made, as runs on other machines have them: {_listed(held, shards.total)}")
    elif shards.unfinished and not worker.done:
        tell(f"nothing is left to make of {many(shards.total, 'shard')}: {worker.folder.path}")
    return worker.exit_status()


def _check(given: Mapping[str, Any], shards: Shards, output: Output) -> None:
    if output.form not in (Form.auto, Form.jsonl):
        raise UsageError(f"{param('into')} keeps JSON lines; leave out {param(output.form.value)}")
    names = [*(given.get("inputs") or ()), *(given.get("paths") or ())]
    # next looks at the inputs of a shard that is complete before those of its own.
    if not shards.is_one and "inputs" in given and (not names or STDIN in names):
        raise UsageError(
            f"{param('shard')} {given['shard']}: stdin can be read once; name inputs by {param('inputs')}, a "
            f"list in a file too, or make one shard, as by {param('shard')} 1/{shards.total}"
        )


def _listed(numbers: list[int], total: int) -> str:
    return spelled(", ".join(f"{param('shard')} {each}" for each in in_ranges(numbers, total)))


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that decide what a shard says, as JSON; files by name and sha256, so that they may move."""
    return {
        name: _plain(value, look=name not in NAMES)
        for name, value in given.items()
        if name not in INPUTS | WITHOUT_EFFECT and value is not None
    }


def _plain(value: Any, *, look: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each, look=look) for each in value]
    if isinstance(value, Enum):
        return value.value
    if look and isinstance(value, str | Path) and value and Path(value).is_file():
        return f"{Path(value).name} sha256:{_digest(value)}"
    return str(value) if isinstance(value, Path) else value


@cache
def _digest(path: str | Path) -> str:
    return sha256_of_files(Path(path))
