"""The command ``berttools layerdiff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.errors import UsageError
from _toolio.streams.records import RecordWriter
from berttools.checkpoints import groups
from berttools.commands import _layerdiff as parts
from berttools.commands import _options
from berttools.layerdiff import records

SCHEMA = "berttools.layerdiff/1"


def layerdiff(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The pre-trained checkpoint: a folder or a file.")],
    ft: Annotated[
        list[Path],
        typer.Argument(metavar="FT...", help="The fine-tuned checkpoints: folders, files, or LoRA adapters of BASE."),
    ],
    by: Annotated[groups.By, typer.Option(help="One record a tensor, or tensors added up exactly.")] = groups.By.tensor,
    only: Annotated[
        str | None,
        typer.Option(metavar="REGEX", callback=parts.expression, help="Only tensors in whose name it is found."),
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="Q,K", help="Only matrices of these groups.")] = None,
    group_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules in front of the built-in ones: a group and an expression a line."),
    ] = None,
    strip_prefix: Annotated[
        list[str] | None, typer.Option(metavar="PREFIX", help="Take this off names on either side; repeatable.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Compare the fine-tuned ones with each other too.")] = False,
    baseline: Annotated[
        parts.Baseline | None,
        typer.Option(help="Add the base's distance to a fresh initialisation of its config.json."),
    ] = None,
    seed: options.Seed = 0,
    svd: Annotated[
        int, typer.Option(min=0, metavar="K", help="Add the share of each change in its first K singular values.")
    ] = 0,
    device: options.Device = "cpu",
    heatmap: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw angles: .png, .svg or .pdf.")] = None,
    force: options.Force = False,
    table: Annotated[bool, typer.Option("--table", help="Write a table, in a pipe too.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV with a line of names.")] = False,
) -> int:
    """Measure how far fine-tuning moved each tensor.

    One record a tensor, first field the angle. Reads folders, safetensors, sharded safetensors by their index,
    .bin files (with weights_only), and LoRA adapters, merged tensor by tensor. Prefixes such as bert. and the old
    names of LayerNorm are matched; fused matrices (Wqkv, c_attn) are taken apart. Angles and L1
    distances are what arXiv 2004.14129 compares models by; the scale of l1, sum|d| / sqrt(n), is chosen here. All is
    summed in float64.

    A line of --group-map such as Q attn[.]query names the group, then an expression looked for in names; Q+K+V
    divides a matrix by rows into equal parts, Q+K+V@1 by columns; (?P<layer>[0-9]+) in it is the layer.
    """
    form = _options.form_of(table=table, csv=csv)
    if svd and by is not groups.By.tensor:
        raise UsageError(f"--svd {svd} is of single matrices: leave out --by {by}")
    kind = _options.drawn_as(heatmap, force=force)
    wanted, choice = (
        parts.pairs_of(len(ft) + 1, each_other=pairs),
        parts.choose(only, group, group_map, strip_prefix or []),
    )
    with RecordWriter(
        SCHEMA,
        "angle",
        records.COLUMNS,
        decimals=12,
        form=form,
        csv_fields=records.CSV_FIELDS,
        makes_files=bool(heatmap),
    ) as writer:
        run, models = records.Run(choice, by, svd, device, heatmap=heatmap is not None), parts.open_models(base, ft)
        fresh = run.baseline(models[0], seed) if baseline else {}
        for one, other in wanted:
            named = {"base": models[one].path, "ft": models[other].path} if len(models) > 2 else {}
            title = f"{models[one].path.name} → {models[other].path.name}"
            for record in run.records(models[one], models[other], {} if one else fresh, title):
                writer.emit({"angle": None, **record, **named})
        if heatmap:
            run.draw(heatmap, kind)
        return writer.exit_code
