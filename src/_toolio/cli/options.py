"""Shared option types: the same name, meaning and help text in every command."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from _toolio.compute.precision import Precision
from _toolio.errors import UsageError, param
from _toolio.streams.records import Form
from _toolio.streams.shards import parse_shards
from _toolio.streams.sources.braces import expanded

C = TypeVar("C", bound=Callable[..., Any])


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?", text):
        raise typer.BadParameter(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text


def finite(value: float | None) -> float | None:
    """Return a value that is finite; refuse NaN, which no comparison with a bound refuses, and infinity."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def named(inputs: Sequence[str] | None, paths: Sequence[str] | None) -> list[str]:
    """Return what is to be read: what ``--in`` names, then what arguments do; braces in names are expanded."""
    return expanded([*(inputs or ()), *(paths or ())])


def completion(function: C) -> C | None:
    """Return what completes an option's values where a shell asks for it; typer's describing it costs 0.5 ms."""
    return function if any(name.endswith("_COMPLETE") for name in os.environ) else None


def starting(values: Iterable[str], incomplete: str) -> list[str]:
    """Return values that begin as what was typed does, each once: a shell's completion of an option."""
    return list(dict.fromkeys(value for value in values if value.startswith(incomplete)))


def starting_last(values: Iterable[str], incomplete: str) -> list[str]:
    """Return what was typed with its last part, behind a comma, completed by each value that it has not yet."""
    before, comma, last = incomplete.rpartition(",")
    known = before.split(",")
    return [f"{before}{comma}{value}" for value in starting(values, last) if value not in known]


_OTHERS = (
    *(".npy", ".npz", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".h5", ".parquet", ".onnx"),
    *(".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt"),
)


P = TypeVar("P", Path, Path | None)


def tensor_file(path: P) -> P:
    """Return the name of a safetensors file; refuse one whose ending is another format's."""
    if path is not None and path.suffix.lower() in _OTHERS:
        raise typer.BadParameter(
            f"{path}: a safetensors file is written, and no {path.suffix}; name it {path.with_suffix('.safetensors')}"
        )
    return path


def _shard(text: str | None) -> str | None:
    try:
        parse_shards(text)
    except UsageError as error:
        raise typer.BadParameter(error.message) from None
    return text


Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        "-i",
        metavar="PATH",
        help="A file, a folder, a .tar, a list, a URL, or - for paths or records on stdin; {1..9} and {a,b} in a name "
        "are expanded; may be repeated. Default: stdin.",
    ),
]
Paths = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH]...", show_default=False, help="As --in; both may be given.")
]
AllFiles = Annotated[
    bool,
    typer.Option(
        "--all-files", help="Try every file of folders and archives. Default: those whose name is that of a photo."
    ),
]
Urls = Annotated[bool, typer.Option("--urls", help="Read the URLs that lists, records and stdin name, too.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="Paths on stdin end in NUL, as find -print0 writes them.")]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        callback=_shard,
        help="Handle only the K-th of N parts of the inputs. With --into also several, 3-7/N, or all that nobody has "
        "made yet, next/N. Default: RANK and WORLD_SIZE if set, else all.",
    ),
]
Into = Annotated[
    Path | None,
    typer.Option(
        "--into",
        metavar="DIR",
        help="Write records to a file a shard in this folder, each with a marker of what it was made of; leave out "
        "those that are complete.",
    ),
]
PrecisionChoice = Annotated[
    Precision, typer.Option("--precision", help="auto: bfloat16 where a GPU has it. Weights are float32 in any case.")
]
Device = Annotated[str, typer.Option(metavar="DEVICE", callback=_device, help="auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random draws, made item by item.")]
Batch = Annotated[int, typer.Option(min=1, help="Items in a batch on an accelerator.")]
OutFile = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        callback=tensor_file,
        help="The safetensors file to write; complete or absent.",
    ),
]
ShardOutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        callback=tensor_file,
        help="The safetensors file to write; complete or absent. With --into, each shard's is in that folder.",
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write to; mirrors the input's tree.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep what an earlier run with the same arguments and inputs has written."),
]
Table = Annotated[bool, typer.Option("--table", help="Write records as a table, in a pipe too.")]
Csv = Annotated[bool, typer.Option("--csv", help="Write records as CSV with a line of names.")]
Jsonl = Annotated[bool, typer.Option("--jsonl", help="Write records as JSON lines, on a terminal too.")]


def form_of(*, table: bool, csv: bool, jsonl: bool) -> Form:
    """Return how records are written; UsageError if several options are set."""
    chosen = [name for name, given in zip(("table", "csv", "jsonl"), (table, csv, jsonl), strict=True) if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(map(param, chosen))}: give one of them")
    return Form(chosen[0]) if chosen else Form.auto
