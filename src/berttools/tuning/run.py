"""Fine-tune a classifier, from texts and a base to a model or a delta."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from _toolio.compute.distributed import Processes
from _toolio.compute.precision import doubt_of, in_half
from _toolio.errors import ToolError, param, spelled
from _toolio.files.claims import claimed
from _toolio.version import tool_version
from _toolio.words import many
from berttools.tuning.config import FinetuneConfig, Save
from berttools.tuning.datasets import check_metric, open_classifier, read_texts, tokenised

if TYPE_CHECKING:
    import torch

    from berttools.texts.batches import Dataset
    from berttools.texts.examples import Example
    from berttools.tuning.parameter_names import Span
    from berttools.tuning.parameters import ParameterSelection
    from berttools.tuning.trainer import Trainer

_FEW_STEPS = 100
"""With fewer, a model that has learned nothing needs more of them before anything else is changed."""

Progress = Callable[[range], Iterable[int]]
"""Called with the steps of a round; yields them, and may show how many are done."""

Warn = Callable[[str], object]
"""Called with a warning of one line."""


def finetune(
    config: FinetuneConfig,
    *,
    device: torch.device | None = None,
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
    progress: Progress = iter,
    warn: Warn = warnings.warn,
) -> Iterator[dict[str, Any]]:
    """Fine-tune a classifier on labelled texts, and write the model or its delta.

    The configuration is checked, and texts and base are opened, at the call; training goes on as records are taken.

    Parameters
    ----------
    config
        What to tune, on which texts, how, and what to write.
    device
        Where to compute; None for a GPU if there is one.
    processes
        Which of several processes this is, inside ``_toolio.compute.distributed.join``; only the leading one yields.
    progress, warn
        What to call with a round's steps, and with warnings.

    Yields
    ------
    dict
        A record an evaluation (``score``, ``metric``, ``epoch``, ``step``, ``loss``, ...), those of an interrupted run
        that is resumed too; at last that of the model that was written, with ``path`` and sizes.

    Raises
    ------
    UsageError, ToolError
        As of ``FinetuneConfig.check``; if texts or base cannot be used; if the loss or a gradient became NaN or
        infinite.
    """
    return FinetuneRun(config, device, processes, progress=progress, warn=warn).records()


class FinetuneRun:
    """One fine-tuning, from the files to the model that is written.

    Parameters
    ----------
    config, device, processes, progress, warn
        As of ``finetune``.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        device: torch.device | None = None,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
        *,
        progress: Progress = iter,
        warn: Warn = warnings.warn,
    ) -> None:
        from _toolio.compute.device import pick_device
        from berttools.checkpoints.files import open_checkpoint

        self._checkpoint = config.check(writes=processes.leads)
        self._config, self._processes, self._progress, self._warn = config, processes, progress, warn
        self._device = pick_device("auto") if device is None else device
        selection = config.selection(processes.agree(config.read_lines() if processes.leads else None))
        train, dev = read_texts(config.train, config.dev, config.columns, task=config.task)
        self._base = open_checkpoint(config.base)
        self._open(train, dev)
        self.training = config.training(len(train), half=in_half(config.precision, self._device))
        if doubt := doubt_of(self._device, half=self.training.half):
            self._warn_once(doubt)
        tuned = self._select(selection)
        self._about = self._provenance(tuned)
        processes.check_same({**self._about, "arguments": asdict(self.training)})
        done = processes.agree(config.is_done if processes.leads else None)
        self._done = processes.agree(self._figures_of_done() if processes.leads else None) if done else None
        self.trainer = self._make_trainer(tuned)
        kept = config.resume and self._checkpoint.exists()
        if self._done is None and processes.agree(kept if processes.leads else None):
            self.trainer.load(self._checkpoint, self._about, best=self.dev is not None and processes.leads)

    def _open(self, train: list[Example], dev: list[Example]) -> None:
        """Open the classifier, tokenise the texts for it, and choose the metric that ranks."""
        from berttools.texts.labels import classes_in
        from berttools.texts.metrics import default_metric

        config = self._config
        self.classifier, source = open_classifier(config, train, dev, warn=self._warn_once)
        self._examples = train
        self.train = tokenised(train, self.classifier, longest=config.max_length, source=source)
        self.classifier.limits.check_alike(self.train.texts, train)
        self.dev = tokenised(dev, self.classifier, longest=config.max_length, source=source) if dev else None
        labels = self.classifier.labels
        if labels.multiple and all(len(classes_in(example.label)) == 1 for example in train):
            self._warn_once(f'{config.train}: every text has one label, and none a list of several, such as ["a","b"]')
        self.metric = (
            config.metric.value if config.metric else default_metric(len(labels.names), multiple=labels.multiple)
        )
        check_metric(self.metric, labels)

    def _select(self, selection: ParameterSelection) -> list[str]:
        """Return the names of the tensors to tune, and keep the parts of those that are tuned in part."""
        from berttools.checkpoints.names import base_names

        head = self.classifier.head
        shapes = {name: tuple(each.shape) for name, each in self.classifier.model.named_parameters()}
        names = base_names(self._base, shapes)
        tuned = selection.resolve(shapes, base=names, head=head, others=self._base.tensors)
        if said := selection.doubt(shapes, base=names):
            self._warn_once(said)
        self._spans: Mapping[str, Sequence[Span]] = selection.spans(tuned, shapes, base=names, head=head)
        return tuned

    def _provenance(self, tuned: list[str]) -> dict[str, Any]:
        """Return all that decides the outcome besides the hyperparameters of training, for checkpoints and outputs."""
        from berttools.checkpoints.digests import base_digest

        return {
            "version": tool_version(),
            "metric": self.metric,
            "base_sha256": base_digest(self._base),
            "train_sha256": self.train.sha256,
            "dev_sha256": self.dev and self.dev.sha256,
            "labels": list(self.classifier.labels.names),
            "choice": self._config.choice(tuned, self._spans),
        }

    def _make_trainer(self, tuned: list[str]) -> Trainer:
        """Return what trains the tensors ``tuned``; it trains nothing if an earlier run is done."""
        from berttools.tuning.trainer import Trainer

        return Trainer(
            self.classifier, tuned, self.train, self.training, device=self._device, processes=self._processes,
            spans=self._spans,
        )  # fmt: skip

    def _warn_once(self, text: str) -> None:
        """Warn, in the leading process only."""
        if self._processes.leads:
            self._warn(spelled(text))

    def _figures_of_done(self) -> dict[str, Any]:
        """Return the figures of a finished run's output, if this configuration has made it."""
        from _toolio.compute.checkpoints import figures_in
        from berttools.checkpoints.model_folder import made_of

        about = {**self._about, "arguments": asdict(self.training)}
        return figures_in(made_of(self._config.out), self._config.out, about)

    def records(self) -> Iterator[dict[str, Any]]:
        """Train, yielding a record an evaluation; write the best model, and yield its record."""
        with claimed(self._config.out if self._processes.leads else None, replace=self._config.force):
            yield from self.rounds()
            if self._processes.leads:
                yield self.write()
        self._processes.agree(None)  # a process that ends is the end of all: the model is written first

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Train; yield a record a round, those of an interrupted run too. The other processes yield none."""
        if self._done is not None:
            return
        yield from self.trainer.history
        if self._processes.agree(self._stopped):
            return
        for loss in self.trainer.rounds(self._progress if self._processes.leads else iter):
            if self._processes.leads:
                yield self._evaluate_round(loss)
                self.trainer.save(self._checkpoint, self._about)
            if self._processes.agree(self._stopped):
                return

    def _evaluate_round(self, loss: float) -> dict[str, Any]:
        trainer, best = self.trainer, self._best
        record: dict[str, Any] = {"score": None, "metric": self.metric, "epoch": trainer.epoch, "step": trainer.step}
        record["loss"] = loss
        if not trainer.history:
            record["first_loss"] = trainer.first_loss
        if self.dev is None:
            record |= {"reason": spelled(f"no {param('dev')}")}
        else:
            found = self._evaluate(self.dev)
            record |= self._figures(found)
            if record["score"] is None:
                record["reason"] = f"the model says the same of all texts: there is no {self.metric}"
        better = self.dev is None or best is None or self._rank(record) > self._rank(best)
        record["best"] = better
        trainer.keep(record, best=better, last=self.dev is None)
        return record

    def _evaluate(self, dev: Dataset) -> dict[str, Any]:
        """Return the model's metrics, and ``loss``."""
        return self.trainer.inference.measure(dev)

    def _figures(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a record for what ``Inference.measure`` has found."""
        found = dict(found)
        half, chance = found.pop("at_half", None), found.pop("chance")[self.metric]
        figures = {"score": found[self.metric], "chance": chance, "dev_loss": found.pop("loss"), **found}
        return figures if half is None else {**figures, "score_at_half": half[self.metric]}

    def _rank(self, record: dict[str, Any]) -> tuple[float, ...]:
        """Return what evaluations are compared by; larger is better."""
        return (rank_of(record),)

    @property
    def _best(self) -> dict[str, Any] | None:
        return next((record for record in reversed(self.trainer.history) if record["best"]), None)

    @property
    def _stopped(self) -> bool:
        """Whether early stopping ends the run: ``patience`` evaluations were not better than the best."""
        since = next((n for n, record in enumerate(reversed(self.trainer.history)) if record["best"]), 0)
        return self._config.patience is not None and since >= self._config.patience

    def write(self) -> dict[str, Any]:
        """Write the best model; return the record of the whole run. The output of a finished run is left as it is."""
        if self._done is not None:
            record = self._as_written(self._done)
        else:
            trainer, best = self.trainer, self._best
            if best is None:  # no round was made, which cannot be
                raise ToolError("nothing was tuned")
            trainer.restore_best()
            figures = {key: value for key, value in best.items() if key not in ("best", "loss", "first_loss")}
            record = self._write(figures, {**self._about, "arguments": trainer.arguments, "tuned": trainer.names})
            self._warn_of_nothing_learned(record)  # of what was written: a head may have been tuned again
        self._checkpoint.unlink(missing_ok=True)
        sizes = {"train": len(self.train.texts), "train_cut": self.train.cut}
        sizes |= {"dev": len(self.dev.texts), "dev_cut": self.dev.cut} if self.dev else {}
        rate, head_rate = self.training.learning_rate, self.training.head_learning_rate
        rates = {"learning_rate": rate, "head_learning_rate": rate if head_rate is None else head_rate}
        return {**record, **sizes, **rates, "base_sha256": self._about["base_sha256"]}

    def _warn_of_nothing_learned(self, best: dict[str, Any]) -> None:
        from berttools.classifier.learned import signs_of_nothing_learned

        examples = None if self.dev is None else len(self.dev.texts)
        if signs := signs_of_nothing_learned(best, self.trainer.history, examples=examples):
            self._warn_once(f"{'; '.join(signs)}: try {self._advice()}")

    def _advice(self) -> str:
        """Return what to try where nothing was learned, the likeliest first."""
        rate, more = self._rate_and_more
        epochs, steps = f"more {param('epochs')}", self.trainer.step
        tries = [f"{epochs} (only {many(steps, 'step')})", rate] if steps < _FEW_STEPS else [rate, epochs]
        return ", ".join(tries) + more

    @property
    def _rate_and_more(self) -> tuple[str, str]:
        """Another learning rate; and more matrices, or nothing where there are none."""
        more = "" if self._config.everything else f", or more matrices ({param('only')}, {param('group')})"
        return f"another {param('learning_rate')} than {self.training.learning_rate:g}", more

    def _as_written(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Return the figures and sizes of what is written."""
        from _toolio.tensors.reader import open_safetensors
        from berttools.checkpoints.files import open_checkpoint

        trainer, config = self.trainer, self._config
        if config.save is Save.delta:
            stored = sum(math.prod(entry.shape) for entry in open_safetensors(config.out).entries.values())
        else:
            stored = sum(tensor.size for tensor in open_checkpoint(config.out).tensors.values())
        sizes = {"tensors": len(trainer.names), "tuned": trainer.tuned, "parameters": trainer.parameters}
        return {**figures, "path": config.out, "save": config.save.value, **sizes, "stored": stored}

    def _write(self, figures: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        """Write the model as it is now; return its figures and sizes."""
        from berttools.checkpoints.model_folder import write_model
        from berttools.classifier.head import set_thresholds
        from berttools.classifier.model import config_text, state_arrays
        from berttools.tuning.delta import write_delta

        out, made = self._config.out, {**about, "figures": figures}
        model = self.classifier.model
        set_thresholds(model.config, figures.get("label_thresholds"))
        tensors, text = state_arrays(model), config_text(model)
        if self._config.save is Save.delta:
            write_delta(out, tensors, text, self._base, made)
        else:
            write_model(out, tensors, text, self._config.base, made)
        return self._as_written(figures)


def rank_of(record: dict[str, Any]) -> float:
    """Return what records of evaluations are compared by; no score is worse than any."""
    return float("-inf") if record["score"] is None else float(record["score"])
