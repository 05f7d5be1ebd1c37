"""Configuration of a fine-tuning: what the user sets, and what the trainer needs of it. Importable without torch."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.choices import choice_of, refuse_below_one
from _toolio.compute.precision import Precision
from _toolio.errors import ToolError, UsageError, param
from _toolio.files.checkpoint_names import checkpoint_beside
from _toolio.files.overwriting import checkpoint_of, refuse_existing, refuse_inside, refuse_nested
from _toolio.streams.inputs import STDIN, is_empty_folder
from berttools.texts.metric_names import Metric

if TYPE_CHECKING:
    from berttools.texts.examples import Example
    from berttools.texts.labels import Labels
    from berttools.tuning.parameter_names import Span
    from berttools.tuning.parameters import ParameterSelection


RATE, RATE_OF_PARTS, RATE_OF_NEW_HEAD = 5e-5, 1e-4, 1e-3
"""Peak learning rates by default: of a whole model; of parts of one; and the least of a new head beside parts.

The fewer tensors are tuned, the further each must move; a new head that learns as slowly as they do stays as it was
drawn. `docs/results/critical-layers.md` has what rates learned best.
"""


class Task(StrEnum):
    """What a new head predicts."""

    auto = "auto"
    classification = "classification"
    regression = "regression"
    multilabel = "multilabel"


class Save(StrEnum):
    """What is written."""

    model = "model"
    delta = "delta"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Hyperparameters of a training.

    Attributes
    ----------
    steps
        Updates of the weights in all.
    every
        Steps of a round, after which the model is evaluated.
    batch
        Examples a step, over all processes.
    accumulate
        Micro-batches of a step, one after the other: less memory, the same gradient to rounding, dropout included (see
        ``berttools.tuning.dropout`` for the models of which that holds).
    learning_rate, warmup
        The peak, and the share of steps until it is reached: see ``berttools.tuning.schedule``.
    weight_decay
        Of matrices; biases and norms have none.
    clip
        Largest norm of the gradient; 0 for no limit.
    seed
        Seed of order, dropout and the new head. What is dropped of an example follows from seed, step and example.
    half
        Whether to compute in bfloat16 (autocast); weights stay float32.
    head_learning_rate
        The head's own peak; None for the same.
    """

    steps: int
    every: int
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    half: bool = False
    head_learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """AdamW's hyperparameters of tensors that do not follow ``TrainingConfig``: peak rate, decay, epsilon."""

    learning_rate: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A base, the labelled texts of a task, and what a head for them predicts.

    A choice may be given as its text, a path as text: each is converted.

    Attributes
    ----------
    base
        The pre-trained model's folder.
    train
        A file of labelled texts: ``.jsonl``, ``.csv`` or ``.tsv``; None where none are read.
    columns
        Roles of columns, as of ``berttools.texts.rows.parse_columns``.
    task, new_head
        What a new head predicts, and whether to replace the base's own head by one.
    max_length
        Tokens at which texts are truncated; None for as many as the model takes.
    seed
        Seed of all random draws, those of a new head too.

    Raises
    ------
    UsageError
        If a choice is unknown, or a number is less than 1.
    """

    base: Path
    train: str | None
    columns: str | None = None
    task: Task = Task.auto
    new_head: bool = False
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Convert what is compared by identity later, or used as a path."""
        self._convert_choices(task=Task)
        object.__setattr__(self, "base", Path(self.base))
        if self.train is not None:
            object.__setattr__(self, "train", os.fspath(self.train))
        refuse_below_one(self.max_length, "max_length")

    def _convert_choices(self, **kinds: type[StrEnum]) -> None:
        for name, kind in kinds.items():
            object.__setattr__(self, name, choice_of(kind, getattr(self, name), name))

    def check_task(self) -> None:
        """Raise if the base is no model's folder, or parameters contradict it; nothing heavy is imported.

        Raises
        ------
        UsageError
            If ``task`` is of a new head and the base has its own, or ``columns`` is not understood.
        ToolError
            If ``base`` is no model's folder.
        """
        from berttools.checkpoints.model_folder import check_folder
        from berttools.texts.rows import parse_columns

        if self.task is not Task.auto and not self.new_head and self._has_head:
            has = f"{param('task')} {self.task}: {self.base} has a head of its own"
            raise UsageError(f"{has}; give {param('new_head')} to replace it")
        parse_columns(self.columns)
        check_folder(self.base)

    @property
    def _has_head(self) -> bool:
        from berttools.checkpoints.model_folder import has_head

        return has_head(self.base)

    def new_labels(self, examples: list[Example]) -> Labels | None:
        """Return the labels of a new head; None if the base's own head is kept."""
        from berttools.texts.labels import learn_labels

        if self._has_head and not self.new_head:
            return None
        try:
            return learn_labels(examples, task=self.task)
        except ToolError as error:
            if error.kind != "many-labels":
                raise
            advice = f"for numbers to come near to, give {param('task')} regression"
            raise ToolError(f"{error.args[0]}; {advice}", kind=error.kind) from None


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TaskConfig):
    """Configuration of a fine-tuning from files to files.

    As of ``TaskConfig``; one pattern may be given without a list. Beside the attributes of that:

    Attributes
    ----------
    dev
        Texts to evaluate on, as ``train``. Without, the last weights are kept.
    out
        The folder to write; with ``Save.delta`` the file.
    metric
        What ranks evaluations; None for accuracy of classes, Pearson's correlation of a regression.
    only, group, layers, freeze
        Which tensors to tune, as of ``ParameterSelection``: patterns (or ``-`` for names or records on stdin), groups
        such as ``Q,K``, layers such as ``8-11``, and what to leave as it is.
    save
        Write the whole model, or what differs from the base.
    epochs, max_steps
        Passes over the training texts; or the number of steps.
    evaluate_every
        Steps between evaluations; None for an epoch.
    patience
        Evaluations without a better one after which to stop; None for never.
    learning_rate, head_learning_rate
        Peaks; None for ``RATE``, or where ``only``, ``group`` or ``layers`` choose parts of the model
        ``RATE_OF_PARTS``, and at least ``RATE_OF_NEW_HEAD`` for a new head beside them.
    batch, accumulate, warmup, weight_decay, clip
        As of ``TrainingConfig``.
    precision
        What to compute in.
    resume, force
        Go on from an interrupted run's checkpoint, or replace what is there.

    Raises
    ------
    UsageError
        If a choice is unknown, or a number of texts, passes, steps or evaluations is less than 1.
    """

    train: str
    out: Path
    dev: str | None = None
    metric: Metric | None = None
    only: list[str] | None = None
    group: str | None = None
    layers: str | None = None
    freeze: list[str] | None = None
    save: Save = Save.model
    epochs: int = 3
    max_steps: int | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    batch: int = 32
    accumulate: int = 1
    learning_rate: float | None = None
    head_learning_rate: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = Precision.auto
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Convert what is compared by identity later, or used as a path."""
        super().__post_init__()
        self._convert_choices(save=Save, precision=Precision)
        if self.metric is not None:
            self._convert_choices(metric=Metric)
        object.__setattr__(self, "out", Path(self.out))
        if self.dev is not None:
            object.__setattr__(self, "dev", os.fspath(self.dev))
        for name in ("only", "freeze"):
            if isinstance(pattern := getattr(self, name), str):
                object.__setattr__(self, name, [pattern])
        for name in ("epochs", "max_steps", "evaluate_every", "patience", "batch", "accumulate"):
            refuse_below_one(getattr(self, name), name)

    def check(self, *, writes: bool = True) -> Path:
        """Return the checkpoint's path, if the configuration can be run; nothing heavy is imported.

        Parameters
        ----------
        writes
            Whether this process writes the output; the hosts of others need not have its folder.

        Raises
        ------
        UsageError
            If parameters contradict each other, or an output would replace what it may not.
        ToolError
            If ``base`` is no model's folder.
        """
        from berttools.checkpoints.model_folder import refuse_model_folder

        checkpoint = checkpoint_beside(self.out)
        if writes:
            checkpoint_of(self.out, resume=self.resume, force=self.force)
        if not writes or self.is_done:
            pass  # whether this configuration has made it shows when the inputs are read
        elif self.save is Save.delta:
            refuse_existing(self.out, force=self.force)
            for path, name in self.inputs:
                refuse_inside(self.out, path, param(name))
        else:
            refuse_model_folder(self.out, force=self.force, base=self.base)
            refuse_nested(self.out, [str(self.base)], named=param("base"))
            refuse_existing(checkpoint, force=True)
        if self.dev is None and (self.patience or self.metric):
            name = "patience" if self.patience else "metric"
            raise UsageError(f"{param(name)} needs texts to measure on: give {param('dev')}")
        if self.only and self.only.count(STDIN) > 1:
            raise UsageError(f"{param('only')} -: stdin can be read once")
        if STDIN in (self.only or ()) and (sys.stdin is None or sys.stdin.isatty()):
            raise UsageError(f"{param('only')} -: stdin is a terminal; pipe names or records of layerdiff in")
        self.selection()
        self.check_task()
        return checkpoint

    @property
    def inputs(self) -> list[tuple[Path, str]]:
        """What is read, none of which may be replaced, with the parameter's name."""
        named = ((self.base, "base"), (self.train, "train"), (self.dev, "dev"))
        return [(Path(path), name) for path, name in named if path]

    @property
    def is_done(self) -> bool:
        """Whether ``resume`` finds the output of a finished run, even of one that was cut off right after it."""
        return self.resume and not self.force and self.out.exists() and not is_empty_folder(self.out)

    @property
    def everything(self) -> bool:
        """Whether no parameter chooses parts of the model; what ``freeze`` leaves is no part."""
        return not (self.only or self.group or self.layers)

    @property
    def rates(self) -> tuple[float, float | None]:
        """The peak learning rates: of what is tuned, and of the head, None for the same."""
        rate = (RATE if self.everything else RATE_OF_PARTS) if self.learning_rate is None else self.learning_rate
        if self.head_learning_rate is None and not self.everything and (self.new_head or not self._has_head):
            return rate, max(rate, RATE_OF_NEW_HEAD)
        return rate, self.head_learning_rate

    def read_lines(self) -> list[str] | None:
        """Read the lines of stdin if they name what to tune, else return None."""
        if STDIN not in (self.only or ()):
            return None
        return [line.decode(errors="surrogateescape") for line in sys.stdin.buffer]

    def selection(self, lines: list[str] | None = None) -> ParameterSelection:
        """Return which tensors to tune; ``lines`` are those of ``read_lines``."""
        from berttools.tuning.parameter_names import (
            check_pattern,
            parse_freeze,
            parse_groups,
            parse_layers,
            read_named,
        )
        from berttools.tuning.parameters import ParameterSelection

        patterns = tuple(check_pattern(text, "only") for text in self.only or () if text != STDIN)
        named = None if lines is None else read_named(line.encode(errors="surrogateescape") for line in lines)
        freeze, groups = parse_freeze(self.freeze or ())
        return ParameterSelection(named, patterns, parse_groups(self.group), parse_layers(self.layers), freeze, groups)

    def choice(self, tuned: Sequence[str], spans: Mapping[str, Sequence[Span]]) -> dict[str, Any]:
        """Return, for provenance, what selected the tensors ``tuned`` and their parts ``spans``, and what may stop."""
        options: dict[str, Any] = {"only": self.only, "group": self.group, "layers": self.layers, "freeze": self.freeze}
        options["patience"] = self.patience
        options["parts"] = {name: [list(span) for span in each] for name, each in spans.items()}
        if STDIN in (self.only or ()):
            options["stdin"] = hashlib.sha256("\n".join(tuned).encode()).hexdigest()
        return {key: value for key, value in options.items() if value}

    def training(self, examples: int, *, half: bool) -> TrainingConfig:
        """Return the hyperparameters of training on so many examples."""
        per_epoch = -(-examples // self.batch)
        steps = self.max_steps or self.epochs * per_epoch
        rate, head_rate = self.rates
        return TrainingConfig(
            steps=steps,
            every=min(self.evaluate_every or per_epoch, steps),
            batch=self.batch,
            accumulate=self.accumulate,
            learning_rate=rate,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            clip=self.clip,
            seed=self.seed,
            half=half,
            head_learning_rate=head_rate,
        )
