"""A whole run of fine-tuning: from texts and a base to a model or delta."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.cli.app import tool_version
from _toolio.cli.progress import track
from _toolio.errors import ToolError, UsageError
from _toolio.files.overwriting import checkpoint_of, refuse_existing, refuse_inside
from _toolio.streams.inputs import STDIN, is_empty_folder
from berttools.classifier.precision import Precision, in_half
from berttools.texts.metric_names import Metric

if TYPE_CHECKING:
    import torch

    from _toolio.compute.distributed import Processes
    from berttools.classifier.model import Classifier
    from berttools.texts.batches import Data
    from berttools.texts.examples import Columns, Example
    from berttools.texts.labels import Labels
    from berttools.tuning.parameters import Choice, Span
    from berttools.tuning.trainer import Knobs, Tuner


class Task(StrEnum):
    """What a new head gives."""

    auto = "auto"
    classification = "classification"
    regression = "regression"


class Save(StrEnum):
    """What is written."""

    model = "model"
    delta = "delta"


@dataclass(frozen=True)
class Asked:
    """The options; named as they are."""

    base: Path
    train: str
    out: Path
    dev: str | None
    columns: str | None
    task: Task
    new_head: bool
    metric: Metric | None
    only: list[str] | None
    group: str | None
    layers: str | None
    freeze: list[str] | None
    save: Save
    epochs: int
    max_steps: int | None
    evaluate_every: int | None
    patience: int | None
    batch: int
    accumulate: int
    learning_rate: float
    head_learning_rate: float | None
    warmup: float
    weight_decay: float
    clip: float
    max_length: int | None
    precision: Precision
    seed: int
    resume: bool
    force: bool

    def check(self) -> Path:
        """Refuse what cannot be, before anything heavy is imported; give the checkpoint's path."""
        from berttools.checkpoints.model_folder import check_folder, refuse_model_folder
        from berttools.texts.examples import parse_columns

        checkpoint = checkpoint_of(self.out, resume=self.resume, force=self.force)
        if self.is_done:
            pass  # whether it is what was asked for shows when the inputs are read
        elif self.save is Save.delta:
            refuse_existing(self.out, force=self.force)
            for folder, option in self.read:
                refuse_inside(self.out, folder, option)
        else:
            refuse_model_folder(self.out, force=self.force, base=self.base)
            refuse_existing(checkpoint, force=True)
        if self.dev is None and (self.patience or self.metric):
            raise UsageError(f"--{'patience' if self.patience else 'metric'} needs texts to measure on: give --dev")
        if self.task is not Task.auto and not self.new_head and self._has_head:
            raise UsageError(f"--task {self.task}: {self.base} has a head of its own; give --new-head to replace it")
        if self.only and self.only.count(STDIN) > 1:
            raise UsageError("--only -: stdin can be read once")
        if STDIN in (self.only or ()) and (sys.stdin is None or sys.stdin.isatty()):
            raise UsageError("--only -: stdin is a terminal; pipe names or records of layerdiff in")
        parse_columns(self.columns)
        self.choice()
        check_folder(self.base)
        return checkpoint

    @property
    def read(self) -> list[tuple[Path, str]]:
        """What is read, of which nothing may be replaced, and the options that name it."""
        named = ((self.base, "--base"), (self.train, "--train"), (self.dev, "--dev"))
        return [(Path(path), option) for path, option in named if path]

    @property
    def is_done(self) -> bool:
        """Tell whether --resume finds what a run has written, be it that it was cut off right after."""
        return self.resume and not self.force and self.out.exists() and not is_empty_folder(self.out)

    @property
    def _has_head(self) -> bool:
        from berttools.checkpoints.model_folder import has_head

        return has_head(self.base)

    def read_named(self) -> list[str] | None:
        """Read the lines of stdin, where they name what to tune."""
        if STDIN not in (self.only or ()):
            return None
        return [line.decode(errors="surrogateescape") for line in sys.stdin.buffer]

    def choice(self, named: list[str] | None = None) -> Choice:
        """Make of the options what to tune; ``named``: the lines that stdin had, where that was asked for."""
        from berttools.tuning.parameters import (
            Choice,
            check_pattern,
            parse_freeze,
            parse_groups,
            parse_layers,
            read_named,
        )

        patterns = tuple(check_pattern(text, "--only") for text in self.only or () if text != STDIN)
        lines = None if named is None else read_named(line.encode(errors="surrogateescape") for line in named)
        freeze, groups = parse_freeze(self.freeze or ())
        return Choice(lines, patterns, parse_groups(self.group), parse_layers(self.layers), freeze, groups)

    def chosen(self, tuned: Sequence[str], spans: Mapping[str, Sequence[Span]]) -> dict[str, Any]:
        """Say which options chose what is tuned; ``tuned`` and ``spans`` say it of lines that stdin had."""
        options: dict[str, Any] = {"only": self.only, "group": self.group, "layers": self.layers, "freeze": self.freeze}
        options["parts"] = {name: [list(span) for span in each] for name, each in spans.items()}
        if STDIN in (self.only or ()):
            options["stdin"] = hashlib.sha256("\n".join(tuned).encode()).hexdigest()
        return {key: value for key, value in options.items() if value}

    def new_labels(self, examples: list[Example]) -> Labels | None:
        """Give what a new head shall say; None where the base's own head is tuned on."""
        from berttools.texts.labels import learn_labels

        return None if self._has_head and not self.new_head else learn_labels(examples, task=self.task)

    def knobs(self, examples: int, *, half: bool) -> Knobs:
        """Say how to train on so many examples."""
        from berttools.tuning.trainer import Knobs

        per_epoch = -(-examples // self.batch)
        steps = self.max_steps or self.epochs * per_epoch
        return Knobs(
            steps, min(self.evaluate_every or per_epoch, steps), self.batch, self.accumulate, self.learning_rate,
            self.warmup, self.weight_decay, self.clip, self.seed, half, self.head_learning_rate,
        )  # fmt: skip


class Run:
    """One tuning, from the files to the model that is written.

    Parameters
    ----------
    asked
        The options.
    device, processes
        Where to compute.
    checkpoint
        What is written after each round.
    """

    def __init__(self, asked: Asked, device: torch.device, processes: Processes, checkpoint: Path) -> None:
        from berttools.checkpoints.digests import base_digest
        from berttools.checkpoints.files import open_checkpoint
        from berttools.checkpoints.names import base_names
        from berttools.classifier.model import open_base
        from berttools.texts.examples import parse_columns
        from berttools.texts.metrics import default_metric

        self._asked, self._processes, self._checkpoint = asked, processes, checkpoint
        choice = asked.choice(processes.agree(asked.read_named() if processes.leads else None))
        columns = parse_columns(asked.columns)
        train = _read(asked.train, columns)
        dev = _read(asked.dev, columns) if asked.dev else None
        if dev and (dev[0].second is None) != (train[0].second is None):
            kinds = ("pairs", "single texts") if dev[0].second else ("single texts", "pairs")
            raise ToolError(
                f"--dev {asked.dev}: holds {kinds[0]}, and --train {asked.train} {kinds[1]}", kind="bad-text"
            )
        base = open_checkpoint(asked.base)
        new = asked.new_labels(train)
        self.classifier = open_base(asked.base, new, seed=asked.seed)
        source = f"--train {asked.train} has" if new else "the base's head knows; --new-head replaces it"
        self._examples = train
        self.train = _data(train, self.classifier, asked.max_length, source)
        self.dev = _data(dev, self.classifier, asked.max_length, source) if dev else None
        self.metric = asked.metric.value if asked.metric else default_metric(len(self.classifier.labels.names))
        _check_metric(self.metric, self.classifier.labels)
        shapes = {name: tuple(each.shape) for name, each in self.classifier.model.named_parameters()}
        names = base_names(base, shapes)
        tuned = choice.resolve(shapes, base=names, head=self.classifier.head, others=base.tensors)
        self._spans = choice.spans(tuned, shapes, base=names, head=self.classifier.head)
        self.knobs = asked.knobs(len(train), half=in_half(asked.precision, device))
        self._base, self._device = base, device
        self._about = {
            "version": tool_version(),
            "metric": self.metric,
            "base_sha256": base_digest(base),
            "train_sha256": self.train.sha256,
            "dev_sha256": self.dev and self.dev.sha256,
            "labels": list(self.classifier.labels.names),
            "choice": asked.chosen(tuned, self._spans),
            **self._more_about(),
        }
        self._done = self._figures_of_done() if asked.is_done else None
        self.tuner = self._prepare(tuned)
        if self._done is None and asked.resume and checkpoint.exists():
            self.tuner.load(checkpoint, self._about, best=self.dev is not None and processes.leads)

    def _prepare(self, tuned: list[str]) -> Tuner:
        """Make what tunes; ``tuned``: what the options choose. Nothing is tuned where an earlier run is done."""
        from berttools.tuning.trainer import Tuner

        device, processes = self._device, self._processes
        return Tuner(
            self.classifier, tuned, self.train, self.knobs, device=device, processes=processes, spans=self._spans
        )

    def _more_about(self) -> dict[str, Any]:
        """Say what else decides the outcome."""
        return {}

    def _figures_of_done(self) -> dict[str, Any]:
        """Give the figures of what an earlier run has written, if it is what was asked for."""
        from _toolio.compute.checkpoints import figures_in
        from berttools.checkpoints.model_folder import made_of
        from berttools.tuning.trainer import arguments_of

        about = {**self._about, "arguments": arguments_of(self.knobs, self._processes)}
        return figures_in(made_of(self._asked.out), self._asked.out, about)

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Tune; give a record a round, those of an interrupted run too. The other processes give none."""
        if self._done is not None:
            return
        yield from self.tuner.history
        if self._processes.agree(self._over):
            return
        shown = (lambda steps: track(steps, "tuning", len(steps))) if self._processes.leads else iter
        for loss in self.tuner.rounds(shown):
            if self._processes.leads:
                yield self._measure(loss)
                self.tuner.save(self._checkpoint, self._about)
            if self._processes.agree(self._over):
                return

    def _measure(self, loss: float) -> dict[str, Any]:
        tuner, best = self.tuner, self._best
        record: dict[str, Any] = {"score": None, "metric": self.metric, "epoch": tuner.epoch, "step": tuner.step}
        record["loss"] = loss
        if self.dev is None:
            record |= {"reason": "no --dev"}
        else:
            found = self._measured(self.dev)
            record |= {"score": found[self.metric], "dev_loss": found.pop("loss"), **found}
            if record["score"] is None:
                record["reason"] = f"the model says the same of all texts: there is no {self.metric}"
        better = self.dev is None or best is None or self._rank(record) > self._rank(best)
        record["best"] = better
        tuner.keep(record, best=better, last=self.dev is None)
        return record

    def _measured(self, dev: Data) -> dict[str, Any]:
        """Give the model's metrics, ``loss`` among them."""
        return self.tuner.judge.measure(dev)

    def _rank(self, record: dict[str, Any]) -> tuple[float, ...]:
        """Give what measurements are compared by."""
        return (rank_of(record),)

    @property
    def _best(self) -> dict[str, Any] | None:
        return next((record for record in reversed(self.tuner.history) if record["best"]), None)

    @property
    def _over(self) -> bool:
        """Whether the last of the measurements without a better one is made."""
        since = next((n for n, record in enumerate(reversed(self.tuner.history)) if record["best"]), 0)
        return self._asked.patience is not None and since >= self._asked.patience

    def write(self) -> dict[str, Any]:
        """Write the best model; give the record of the whole run. What is there already stays as it is."""
        if self._done is not None:
            record = self._as_written(self._done)
        else:
            tuner, best = self.tuner, self._best
            if best is None:  # no round was made, which cannot be
                raise ToolError("nothing was tuned")
            tuner.restore_best()
            figures = {key: value for key, value in best.items() if key not in ("best", "loss")}
            record = self._write(figures, {**self._about, "arguments": tuner.arguments, "tuned": tuner.names})
        self._checkpoint.unlink(missing_ok=True)
        sizes = {"train": len(self.train.texts), "train_cut": self.train.cut}
        sizes |= {"dev": len(self.dev.texts), "dev_cut": self.dev.cut} if self.dev else {}
        return {**record, **sizes, "base_sha256": self._about["base_sha256"]}

    def _as_written(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Give the figures of what is there, and its sizes."""
        from _toolio.tensors.reader import open_safetensors
        from berttools.checkpoints.files import open_checkpoint

        tuner, asked = self.tuner, self._asked
        if asked.save is Save.delta:
            stored = sum(math.prod(entry.shape) for entry in open_safetensors(asked.out).entries.values())
        else:
            stored = sum(tensor.size for tensor in open_checkpoint(asked.out).tensors.values())
        sizes = {"tensors": len(tuner.names), "tuned": tuner.tuned, "parameters": tuner.parameters, "stored": stored}
        return {**figures, "path": asked.out, "save": asked.save.value, **sizes}

    def _write(self, figures: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        """Write the model as it is now; give its figures and sizes."""
        from berttools.checkpoints.model_folder import write_model
        from berttools.classifier.model import config_text, state_arrays
        from berttools.tuning.delta import write_delta

        out, made = self._asked.out, {**about, "figures": figures}
        model = self.classifier.model
        tensors, config = state_arrays(model), config_text(model)
        if self._asked.save is Save.delta:
            write_delta(out, tensors, config, self._base, made)
        else:
            write_model(out, tensors, config, self._asked.base, made)
        return self._as_written(figures)


def rank_of(record: dict[str, Any]) -> float:
    """Give what records of measurements are compared by; no score is worse than any."""
    return float("-inf") if record["score"] is None else float(record["score"])


def _read(name: str, columns: Columns) -> list[Example]:
    from berttools.texts.examples import read_examples

    if name == STDIN:
        raise UsageError("--train and --dev are files: they are read more than once")
    return read_examples(name, columns)


def _data(examples: list[Example], classifier: Classifier, longest: int | None, source: str) -> Data:
    import numpy as np

    from berttools.texts.batches import Data, encode
    from berttools.texts.labels import numbers_of

    truth = np.array(numbers_of(examples, classifier.labels, source))
    most = min(longest or classifier.longest, classifier.longest)
    return Data(encode(classifier.tokenizer, examples, most=most), truth)


def _check_metric(metric: str, labels: Labels) -> None:
    from berttools.texts.metrics import CLASSIFICATION, REGRESSION

    known = REGRESSION if labels.regression else CLASSIFICATION
    if metric not in known:
        what = "numbers" if labels.regression else "classes"
        raise UsageError(f"--metric {metric}: the labels are {what}; give one of {', '.join(known)}")
