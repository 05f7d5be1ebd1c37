"""The command ``facetools report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_nested
from _toolio.streams.records import Order, RecordWriter
from facetools.commands._options import CloakSuffix

SCHEMA = "facetools.report/1"
COLUMNS = ("kind", "path", "error")


def report(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write; complete or absent.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            "-i",
            metavar="PATH",
            help="Records: a file, a folder or .tar of .jsonl files, or - for stdin; may be repeated. Default: stdin.",
        ),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="The headline.")] = "What cloaks protect",
    clean: Annotated[
        str | None, typer.Option(metavar="PATH", help="Clean photos for examples: a folder or .tar.")
    ] = None,
    cloaked: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="The same photos, cloaked, with the cloak's name; repeatable."),
    ] = None,
    suffix: CloakSuffix = "",
    examples: Annotated[int, typer.Option(min=1, max=200, help="Photos to show, at most.")] = 4,
    amplify: Annotated[float, typer.Option(min=1, max=255, callback=options.finite, help="Difference factor.")] = 10,
    force: Annotated[bool, typer.Option("--force", help="Replace the report that is there.")] = False,
) -> int:
    """Make a page of results: tables, charts, example photos.

    Reads records of evaluate and train-robust, in any order, and writes a folder: index.html, which needs no network
    and no script; tables.csv and tables.md with the same numbers; charts and photos as PNG. One record a file.

    Each input is one run. Records without a figure are listed in the report. Examples are photos of different people
    as far as there are; one that cannot be used has a record with an error, and another is shown in its place.
    """
    from facetools.reporting.examples import check_examples
    from facetools.reporting.folder import Report, refuse_folder

    shown = check_examples(clean, cloaked or [], suffix, examples, amplify)
    refuse_nested(out, inputs)
    photos = [clean or "", *(path for _, path in shown.cloaked)] if shown else []
    refuse_nested(out, photos, named="a folder of photos")
    refuse_folder(out, force=force)
    claim = claimed(out, replace=force)
    with claim, RecordWriter(SCHEMA, "bytes", COLUMNS, order=Order.made, makes_files=True) as writer:
        from facetools.reporting.results import read_findings

        for each in Report(read_findings(inputs), title, shown).write(out):
            if isinstance(each, tuple):
                path, error = each
                writer.fail(error, {"path": path})
            else:
                writer.emit(each)
        failed = f"; {writer.failures:,} photos could not be used" if writer.failures else ""
        writer.sum_up(f"{writer.written - writer.failures:,} files: open {out / 'index.html'}{failed}")
        return writer.exit_code


PAGE = Page(
    fields={
        "bytes": "Size of the file; null where a photo could not be used.",
        "path": "The file; of an error, the photo.",
        "relative": "Its path below the output folder.",
        "kind": "page, table, chart or photo.",
        "sha256": "Of the file's bytes.",
        "error": "What went wrong with this photo: kind and message.",
    },
    examples=(
        (
            "facetools evaluate --gallery people/ --cloaked cloaked/ > results.jsonl\n"
            "facetools report --in results.jsonl --out report/ > files.jsonl",
            "A page of results.",
        ),
        (
            "facetools evaluate --gallery people/ --cloaked lowkey=cloaked/ --classifier nn --classifier linear |\n"
            "  facetools report --title 'LowKey, two trainers' --clean people/ --cloaked lowkey=cloaked/ \\\n"
            "  --examples 2 --out report/",
            "Straight from evaluate, with two example photos.",
        ),
    ),
)
