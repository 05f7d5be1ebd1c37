"""Options that several commands on texts share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import messages
from _toolio.cli.options import starting_last
from _toolio.compute.precision import Precision
from _toolio.errors import UsageError, param
from _toolio.streams.inputs import STDIN
from berttools.texts.metric_names import Metric

DataInputs = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        "-i",
        metavar="FILE",
        help="A .jsonl, .csv, .tsv or .txt file, or - for JSONL on stdin; may be repeated. Default: stdin.",
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=NAME,...",
        help="Which field is text, text_a, text_b and label: text=sentence,label=gold; or, for a table without a line "
        "of names, what each column is: -,label,-,text.",
    ),
]
PredictPrecision = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="auto: float32. In bfloat16, which is faster on a GPU, a prediction depends on its batch.",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        min=8, metavar="TOKENS", help="Truncate longer texts at their end. Default: as many as the model takes."
    ),
]
MetricOption = Annotated[
    Metric | None,
    typer.Option(
        "--metric",
        help="The metric that ranks. Default: accuracy for classes, pearson for a regression, micro-f1 for lists.",
    ),
]
ModelFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write; whole or absent.")]


def groups(incomplete: str) -> list[str]:
    """Complete groups of matrices, joined by commas, in a shell."""
    from berttools.checkpoints.groups import KNOWN_GROUPS

    return starting_last(KNOWN_GROUPS, incomplete)


def inputs_of(names: Sequence[str]) -> list[str]:
    """Return what to read, stdin if nothing was named.

    Raises
    ------
    UsageError
        If nothing was named and stdin is a terminal, or stdin was named twice.
    """
    found = list(names or [STDIN])
    if found.count(STDIN) > 1:
        raise UsageError("--in -: stdin can be read once")
    if STDIN in found and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no input: name a file, or pipe records in")
    return found


def drawn_as(path: Path | None, *, force: bool) -> str:
    """Return the format of a heat map's file, "" for none. Raises as `_toolio.charts.form_of`."""
    if path is None:
        return ""
    from _toolio.charts import form_of

    return form_of(path, force=force, named=param("heatmap"))


def warn(text: str) -> None:
    """Print a warning on stderr."""
    messages.warn("berttools", text)
