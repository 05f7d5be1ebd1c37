"""The command ``berttools score-layers``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from _toolio.words import many
from berttools import layer_scores
from berttools.commands._options import ColumnsOption, MaxLength, warn
from berttools.commands._training import Base, NewHead, TaskOption
from berttools.layer_scores.config import Criterion, ScoreConfig

if TYPE_CHECKING:
    import torch

SCHEMA = "berttools.score-layers/1"
COLUMNS = ("stack", "layer", "group", "name", "shape", "by", "value", "texts", "reason")


def score_layers(
    base: Base,
    train: Annotated[
        str | None,
        typer.Option(
            "--train", metavar="FILE", help="Texts with labels: .jsonl, .csv or .tsv. Of --by lift none are read."
        ),
    ] = ScoreConfig.train,
    by: Annotated[
        Criterion,
        typer.Option(
            "--by",
            help="Empirical Fisher information, gradient norm times weight norm, cosine between layers, or share of"
            " LIFT's principal weights.",
        ),
    ] = ScoreConfig.by,
    texts: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many texts of --train, drawn at random.")
    ] = ScoreConfig.texts,
    fit_head: Annotated[
        int,
        typer.Option(
            "--fit-head",
            min=0,
            metavar="STEPS",
            help="Tune the head alone for so many steps before gradients are taken; 0: as it is drawn.",
        ),
    ] = ScoreConfig.fit_head,
    columns: ColumnsOption = ScoreConfig.columns,
    task: TaskOption = ScoreConfig.task,
    new_head: NewHead = ScoreConfig.new_head,
    max_length: MaxLength = ScoreConfig.max_length,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Texts a pass; no more than rounding depends on it.")
    ] = ScoreConfig.batch,
    seed: options.Seed = ScoreConfig.seed,
    device: options.Device = "auto",
) -> int:
    """Rank a base's matrices before any tuning.

    One record a matrix of a layer, first field the score, for finetune --only -. The criteria:

    fisher: the Frobenius norm of the diagonal of the empirical Fisher information, squares of each text's own gradient
    (arXiv 2310.17041). grad: norm of the mean loss's gradient times norm of the matrix. cosine: mean cosine of a
    layer's output for the first token to those of the other layers, the same for all matrices of a layer (PRiSM, LREC
    2026). lift: share of entries that are among the largest 5% of all matrices' low-rank approximations (arXiv
    2506.00772).

    fisher and grad are of the loss of a head: the base's own, or one that is drawn with --seed, which --fit-head tunes
    first. On the labels nothing depends but these two. docs/results/critical-layers.md has what the rankings are worth
    beside chance.
    """
    refuse_processes("score-layers")
    config = ScoreConfig(
        base=base, train=train, by=by, texts=texts, fit_head=fit_head, columns=columns, task=task, new_head=new_head,
        max_length=max_length, batch=batch, seed=seed,
    )  # fmt: skip
    config.check()
    with RecordWriter(SCHEMA, "score", COLUMNS, decimals=12) as writer, _computing(config, device) as place:
        for record in layer_scores.score_layers(config, device=place, progress=track, warn=warn):
            writer.emit(record)
        writer.sum_up(f"{many(writer.written, 'record')} by {config.by}")
        return writer.exit_code


@contextmanager
def _computing(config: ScoreConfig, device: str) -> Iterator[torch.device | None]:
    """Yield where to compute; None for what needs no PyTorch."""
    if config.by is Criterion.lift:
        yield None
        return
    from _toolio.compute.device import enough_memory, pick_device
    from berttools.checkpoints.model_folder import silent_transformers

    place = pick_device(device)
    with enough_memory(place, "a smaller --batch, or a smaller --max-length"), silent_transformers():
        yield place


PAGE = Page(
    fields={
        "score": "What ranks, 0 to 1, larger first: of fisher and grad the value's share of the sum over all matrices,"
        " of cosine (1 + value) / 2, of lift the value.",
        "name": "The matrix's name in the base's files, as layerdiff has it.",
        "stack": "Which list of layers its layer is of; absent where the base has one.",
        "layer": "Number of its layer, from 0.",
        "group": "Q, K, V, AO, I or O; of cross-attention XQ, XK, XV or XAO.",
        "shape": "Of the matrix.",
        "by": "The criterion.",
        "value": "The criterion's own value, with all its digits.",
        "part": "Of a matrix that holds several: axis, start and stop of its rows (0) or columns (1); shape too.",
        "texts": "How many texts it was measured on; absent of lift, as are the next three.",
        "truncated": "How many of them were truncated.",
        "seed": "Which texts, and the head where it is new, follow from it.",
        "fit_head": "Of fisher and grad: steps in which the head alone was tuned first.",
        "reason": "Why there is no score.",
    },
    examples=(
        (
            "berttools score-layers --base base/ --train train.jsonl --texts 30 | sort -r | head -4",
            "The four matrices of the most Fisher information.",
        ),
        (
            "berttools score-layers --base base/ --train train.jsonl --by grad --texts 30 --fit-head 20 | sort -r |"
            " head -4 | berttools finetune --base base/ --only - --train train.jsonl --save delta"
            " --out task.safetensors",
            "Tune four matrices, chosen by their gradients under a head that was fitted first.",
        ),
        ("berttools score-layers --base base/ --by lift | sort", "By the weights alone."),
    ),
)
