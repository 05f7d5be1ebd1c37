"""The command ``facetools gather``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import ToolError, UsageError, param
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_existing, refuse_inside
from _toolio.sharding.gathering import Gathered, MissingShardsError, open_shards
from _toolio.streams.records import Order, Record, RecordWriter, read_records
from _toolio.words import many

SHOWN = 20
"""Missing shards, or runs of them, that an error names."""

SHARDED = ("detect", "perturb", "compare", "embed", "align")
"""Commands that write folders of shards."""


def gather(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of shards, as --into writes it.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            callback=options.tensor_file,
            help="Of embed: write all rows into this safetensors file, too. Default: records name each shard's.",
        ),
    ] = None,
    force: options.Force = False,
) -> int:
    """Check and join all shards of a folder.

    Writes the records that one run over all inputs would have written, in the order of the inputs, byte for byte. All
    shards must be there and complete, made by one version with the same options, of one list of inputs, none twice;
    if some are missing, the error names them as --shard takes them. Exits as that one run would have done.

    With --out the embeddings of all shards become one file, and records name its rows. Fields are those of the command
    that made the shards.
    """
    try:
        found = open_shards(folder)
    except MissingShardsError as error:
        named = [f"--shard {each}" for each in error.shards[:SHOWN]]
        named += [f"{len(error.shards) - SHOWN:,} more"] * (len(error.shards) > SHOWN)
        every = f"--shard next/{error.total}"
        raise ToolError(f"{error.message}: run again {', '.join(named)}, or {every} for all", kind=error.kind) from None
    parts = found.outputs(".safetensors")
    if out is not None:
        if not parts:
            raise UsageError(f"{param('out')}: {folder} holds shards of `{found.made.command}`, which embeds nothing")
        refuse_inside(out, folder, "the folder of shards")
        refuse_existing(out, force=force)
    with claimed(out, replace=force), _writer_of(found, makes_files=out is not None) as writer:
        if out is None:
            for marker in found.markers:
                path = found.records(marker)
                with path.open("rb") as stream:
                    writer.pass_lines(stream, name=str(path), written=marker.records, failures=marker.failures)
        else:
            from facetools.embeddings.files import join_embeddings

            for marker, part in zip(found.markers, parts, strict=True):
                _check_rows(found.records(marker), part)
            for marker, start in zip(found.markers, join_embeddings(out, parts), strict=True):
                for record in _records_in(found.records(marker)):
                    if record.get("row") is not None:
                        record |= {"row": record["row"] + start, "file": str(out)}
                    writer.pass_on(record)
        written = many(writer.written, "record")
        writer.sum_up(f"{written} of {many(len(found.markers), 'shard')}, {writer.failures:,} of them failed")
    return found.exit_status


def _records_in(path: Path) -> Iterator[Record]:
    with path.open("rb") as stream:
        yield from read_records(stream, name=str(path))


def _check_rows(records: Path, part: Path) -> None:
    """Raise ToolError if a record names a row that its shard's embeddings do not have."""
    from facetools.embeddings.files import count_faces

    faces = count_faces(part)
    for record in _records_in(records):
        row = record.get("row")
        if row is not None and not (type(row) is int and 0 <= row < faces):
            raise ToolError(f"{records}: a record names a row that {part.name} does not have", kind="bad-record")


def _writer_of(found: Gathered, *, makes_files: bool) -> RecordWriter:
    """Return what writes the records of a command as that command does."""
    tool, _, name = found.made.command.partition(" ")
    if tool != "facetools" or name not in SHARDED:
        raise ToolError(f"{found.folder.path}: holds shards of `{found.made.command}`; gather them with its tool")
    module = importlib.import_module(f"facetools.commands.{name}")
    rank, *others = module.PAGE.fields
    order = Order.made if rank == "row" else Order.highest
    return RecordWriter(module.SCHEMA, rank, module.COLUMNS, csv_fields=others, order=order, makes_files=makes_files)


PAGE = Page(
    fields={},
    examples=(
        (
            "facetools detect --in photos/ --shard next/4 --into scores/\nfacetools gather scores/ > scores.jsonl",
            "Four shards by one worker; others can be started beside it.",
        ),
        (
            "facetools embed --in photos/ --shard next/4 --into faces/\n"
            "facetools gather faces/ --out faces.safetensors > faces.jsonl",
            "One file of the embeddings of all shards.",
        ),
    ),
)
