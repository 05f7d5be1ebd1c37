"""Markers: the file beside a shard's outputs that says that they are whole, and what they were made of."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import InputError, ToolError
from _toolio.files.atomic import atomic_write_bytes
from _toolio.json_text import parse_json
from _toolio.sharding.inputs import ShardInputs
from _toolio.streams.reading import open_input

SCHEMA = "shard/1"

_LARGEST = 1 << 24
"""Bytes of a marker; what is longer is none."""


@dataclass(frozen=True, slots=True)
class Made:
    """What all shards of a folder have in common.

    Attributes
    ----------
    command
        Tool and command, such as ``facetools detect``.
    version
        Of the tool.
    options
        By name, as JSON: those that decide what is written.
    """

    command: str
    version: str
    options: Mapping[str, Any]

    def difference(self, other: Made) -> tuple[str, str, str] | None:
        """Return the first thing that differs, if any: its name, what it is here, and what there, as JSON."""
        here = {"command": self.command, "version": self.version, **self.options}
        there = {"command": other.command, "version": other.version, **other.options}
        for name in dict.fromkeys([*here, *there]):
            if here.get(name) != there.get(name):
                return name, json.dumps(here.get(name)), json.dumps(there.get(name))
        return None


@dataclass(frozen=True, slots=True)
class Marker:
    """What a finished shard says of itself.

    Attributes
    ----------
    number, total
        The number-th of total shards, from 1.
    made
        What it has in common with the others.
    inputs
        What it was made of.
    records, failures
        How many records it has, and how many of them have an error.
    exit_status
        Of the run that made it.
    outputs
        Its files beside the marker, the records first: name to ``bytes`` and ``sha256``.
    """

    number: int
    total: int
    made: Made
    inputs: ShardInputs
    records: int
    failures: int
    exit_status: int
    outputs: Mapping[str, Mapping[str, Any]]

    def has_outputs(self, folder: Path) -> bool:
        """Test whether its files are there, as long as they were; their bytes are for who reads them to check."""
        try:
            found = {name: (folder / name).stat() for name in self.outputs}
            return all(
                # A pipe of that name would be waited for.
                stat.S_ISREG(found[name].st_mode) and found[name].st_size == about["bytes"]
                for name, about in self.outputs.items()
            )
        except OSError:
            return False


def write_marker(path: Path, marker: Marker) -> None:
    """Write a marker, whole or not at all; ToolError if it cannot be written."""
    atomic_write_bytes(path, json.dumps({"schema": SCHEMA, **asdict(marker)}, indent=1).encode() + b"\n")


def read_marker(path: Path) -> Marker | None:
    """Read a marker; None if there is none.

    Raises
    ------
    ToolError
        Kind ``"bad-marker"``: it is none of ours, or cannot be read.
    """
    try:
        with open_input(path, pipes=False) as stream:
            found = parse_json(stream.read(_LARGEST))
        if found.pop("schema") != SCHEMA:
            raise ValueError
        made, inputs = Made(**found.pop("made")), ShardInputs(**found.pop("inputs"))
        marker = Marker(made=made, inputs=inputs, **found)
        _check(marker)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}", kind="bad-marker") from None
    except (ValueError, TypeError, KeyError, AttributeError, InputError):
        raise ToolError(
            f"{path}: not the marker of a shard that this version writes; remove it to make the shard again",
            kind="bad-marker",
        ) from None
    return marker


def _check(marker: Marker) -> None:
    """Raise ValueError for what no marker says; its file may have been made by anybody."""
    made, inputs = marker.made, marker.inputs
    counts = [marker.number, marker.total, marker.records, marker.failures, marker.exit_status, inputs.count]
    counts += [] if inputs.of is None else [inputs.of]
    texts = [made.command, made.version, inputs.digest, *([] if inputs.whole is None else [inputs.whole])]
    if (
        not all(type(number) is int and number >= 0 for number in counts)
        or not 1 <= marker.number <= marker.total
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(made.options, dict)
        or not made.command.isprintable()
        or not marker.outputs
    ):
        raise ValueError
    for name, about in marker.outputs.items():
        # A name that leads elsewhere would read, and copy, what is no part of the folder.
        if name in ("", "..") or Path(name).name != name or not name.isprintable() or type(about["bytes"]) is not int:
            raise ValueError
        if not isinstance(about["sha256"], str):
            raise ValueError
