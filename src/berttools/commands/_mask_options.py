"""Options of ``mask-tune`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli.options import finite, tensor_file
from berttools.mask_tuning.config import Pooler
from berttools.mask_tuning.recipe import Distance, Method, Pattern
from berttools.masks import Code

Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="FILE", callback=tensor_file, help="The mask's file: masks and the head."),
]
MethodOption = Annotated[
    Method,
    typer.Option(
        help="bernoulli: a weight stays with probability sigmoid(score). threshold: where its score is above 0. "
        "topk: where it is among the largest of its matrix."
    ),
]
PatternOption = Annotated[
    Pattern,
    typer.Option(
        help="What is zeroed together: single weights, two of each four, rows, or attention heads, of Q, K, V and AO "
        "(--group) each by itself."
    ),
]
InitialSparsity = Annotated[
    float,
    typer.Option(
        min=0.0, max=0.99, callback=finite, metavar="SHARE",
        help="Share of each matrix, its weights of least magnitude, that is zeroed at the beginning.",
    ),
]  # fmt: skip
TargetSparsity = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=0.99, callback=finite, metavar="SHARE", help="topk's sparsity at the end of a cubic schedule."
    ),
]
InitialScore = Annotated[
    float | None,
    typer.Option(
        min=1e-6, max=50.0, callback=finite,
        help="Magnitude of scores at the beginning. Default: 5 for bernoulli, 0.01 for threshold, 0.1 for topk.",
    ),
]  # fmt: skip
DistanceOption = Annotated[
    Distance,
    typer.Option(
        help="How far from 0 scores begin: all alike, or in proportion to their weights' magnitudes (--initial-score "
        "on average), so that small weights are zeroed first."
    ),
]
ScoreRate = Annotated[
    float | None,
    typer.Option(
        "--score-learning-rate", "--score-lr", min=1e-9, max=100.0, callback=finite,
        help="The scores' peak learning rate. Default: 0.2 for bernoulli, 0.001 for threshold, 0.01 for topk.",
    ),
]  # fmt: skip
HeadRate = Annotated[
    float,
    typer.Option("--learning-rate", "--lr", min=1e-9, max=1.0, callback=finite, help="The head's peak learning rate."),
]
PoolerOption = Annotated[Pooler, typer.Option(help="The layer between encoder and head, where the base has one.")]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REGEX",
        help="Tune other tensors whose name it matches as they are, at the head's rate, and store them whole; "
        "repeatable.",
    ),
]
Refit = Annotated[
    bool,
    typer.Option("--refit-head", help="Tune the head again on the final mask, for a tenth of the steps."),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        "--distill",
        metavar="DIR",
        help="Learn from a tuned model's logits too, by half. It reads the texts with its own tokenizer, up to what it "
        "can take, whatever --max-length says; with --base it shares the labels only.",
    ),
]
CodeOption = Annotated[
    Code,
    typer.Option(help="bits: one a weight. entropy: fewer. conditional: fewer, given the base. auto: least."),
]
