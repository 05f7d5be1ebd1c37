"""The command ``facetools extractors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli.manual import Page
from _toolio.errors import ToolError
from _toolio.streams.records import Order, RecordWriter

SCHEMA = "facetools.extractors/1"
COLUMNS = ("kind", "name", "architecture", "installed", "summary", "reason", "error")


def extractors(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Extractor files to describe as well."),
    ] = None,
) -> int:
    """List extractors and architectures.

    One record each: built-in extractors, opened to check their weights; architectures, with their default settings
    for import-extractor; then the files named. A file that is not an extractor has a record with an error, and the
    run goes on and exits 3.
    """
    with RecordWriter(SCHEMA, "dimensions", COLUMNS, order=Order.made) as writer:
        from facetools.extractors import listing

        for fields in (*listing.built_in(), *listing.known_architectures()):
            writer.emit(fields)
        for path in files or ():
            try:
                writer.emit(listing.describe_file(path))
            except ToolError as error:
                writer.fail(error, {"kind": "file", "name": path.stem, "file": str(path)})
        return writer.exit_code


PAGE = Page(
    fields={
        "dimensions": "Length of an embedding; null for an architecture, whose networks differ.",
        "kind": "built-in, architecture or file.",
        "name": "The value of --extractor or --architecture; of a file, its name in records.",
        "architecture": "The network's architecture.",
        "installed": "Whether the weights, or the packages that the architecture needs, are installed.",
        "summary": "What the architecture is.",
        "settings": "How chips are prepared; of an architecture, the default of its networks.",
        "sha256": "Of the weights; of a file, of its bytes.",
        "file": "The file.",
        "source": "The source of the file: name, sha256, and the place of the weights in it.",
        "version": "Of the tool that made the file.",
        "bytes": "Size of the file.",
        "reason": "Why it is not installed.",
        "error": "What is wrong with this file: kind and message.",
    },
    examples=(("facetools extractors > extractors.jsonl", "List extractors and architectures."),),
)
