"""The command ``berttools maskdiff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.streams.records import RecordWriter
from berttools.checkpoints import groups
from berttools.commands import _options
from berttools.masks import records as _maskdiff

SCHEMA = "berttools.maskdiff/1"


def maskdiff(
    masks: Annotated[list[Path], typer.Argument(metavar="MASK...", help="Mask files; every two are compared.")],
    by: Annotated[groups.By, typer.Option(help="One record a matrix, or matrices added up.")] = groups.By.tensor,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="BASE",
            help="The base that all are of; asked for where a mask coded given its weights must be decoded.",
        ),
    ] = None,
    heatmap: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw layers by groups: a .png, .svg or .pdf.")
    ] = None,
    force: options.Force = False,
    table: Annotated[bool, typer.Option("--table", help="Write a table, in a pipe too.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV with a line of names.")] = False,
) -> int:
    """Tell what masks zero, and what they have in common.

    One mask: sparsity, bytes and bits a weight. Several: for every two of them the Jaccard index of what they zero, how
    many entries differ, and the overlap beside what it would be by chance, if each zeroed as many entries of each
    matrix at random places: z says how many standard deviations lie between.
    """
    form, kind = _options.form_of(table=table, csv=csv), _options.drawn_as(heatmap, force=force)
    rank, shown, more = (
        ("sparsity", _maskdiff.ONE, ["part", "masked_sha256"])
        if len(masks) == 1
        else ("jaccard", _maskdiff.TWO, ["part", "error"])
    )
    columns = (*_maskdiff.PLACE, *shown)
    with RecordWriter(
        SCHEMA, rank, columns, form=form, csv_fields=(*columns, *more), makes_files=bool(heatmap)
    ) as writer:
        run = _maskdiff.Run(by, heatmap=heatmap is not None)
        for record in run.records(masks, base):
            writer.emit(record)
        if heatmap:
            run.draw(heatmap, kind, rank)
        return writer.exit_code
