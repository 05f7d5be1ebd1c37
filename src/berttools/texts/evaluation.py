"""Evaluate predictions against gold labels: metrics with bootstrap confidence intervals, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run, param, spelled
from _toolio.streams.records import Record
from berttools.texts.chance import chance_levels, label_counts
from berttools.texts.examples import EMPTY_LIST, Example, Label, check_label, is_list, listed, value_in, with_numbers
from berttools.texts.labels import Labels, classes_in, doubt, doubtful, learn_labels, refuse_vectors
from berttools.texts.metrics import REGRESSION, bootstrap, measure, metrics_for

NEEDED = ("label", "gold")
"""Fields that a record must have: the predicted label and the gold label."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of all predictions, or of those of one task.

    Attributes
    ----------
    metric, value
        Its name and value; None if it is undefined.
    interval
        95% confidence interval by bootstrap over the predictions; None if it is undefined.
    count
        Number of predictions.
    classes
        Number of classes; 0 for a regression.
    chance
        The metric's chance level: see ``berttools.texts.chance.chance_levels``.
    labels
        Class to how often it is ``gold``, ``predicted`` and both (``right``); empty for a regression.
    task
        The task evaluated; None if all are evaluated together, and for records without a task.
    """

    metric: str
    value: float | None
    interval: tuple[float, float] | None
    count: int
    classes: int
    chance: float
    labels: dict[str, dict[str, int]]
    task: str | None = None


@dataclass
class Evaluation:
    """Collects predicted and gold labels, and computes their metrics."""

    _pairs: list[tuple[str | None, str, Label, Label]] = field(default_factory=list)
    _first: dict[str | None, tuple[Labels, str]] = field(default_factory=dict)
    """Task to the classes that scores name, or none, whether a text has several, and the place of its first record."""
    _whole: list[str | None] = field(default_factory=list)
    """Tasks whose labels are whole numbers, some with a decimal point, and were taken for classes."""

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, record: Record, where: str) -> None:
        """Add a record of ``predict``, or any with ``label`` and ``gold``; ``where`` names it in messages.

        Raises
        ------
        InputError
            If it lacks one of them, has other classes than the first record of its task, one label where that has a
            list, or one that writes classes down as no list.
        """
        scores, task = record.get("scores"), record.get("task")
        names = tuple(scores) if isinstance(scores, dict) else ()
        predicted, gold = (_label(record, name, where, names) for name in NEEDED)
        labels = Labels(names, numbered=True, multiple=isinstance(predicted, tuple))
        if isinstance(predicted, float) and isinstance(gold, str) and not names:
            gold = _value(gold, where)
        if isinstance(gold, tuple) and not labels.multiple:
            raise InputError(f"{where}: gold is a list of classes, and label is none", kind="bad-label")
        key = None if task is None or task == "" else str(task)
        first, place = self._first.setdefault(key, (labels, where))
        if labels != first:
            what = "classes" if names != first.names else "labels, a list or none,"
            raise InputError(f"{where}: has other {what} than {place}; give one model's records", kind="mixed")
        if names:
            for label in (predicted, gold):
                labels.target(label, where, "its scores name")
        self._pairs.append((key, where, predicted, gold))

    def results(self, metrics: Sequence[str] = (), *, seed: int = 0, draws: int = 2000) -> Iterator[MetricResult]:
        """Yield each metric of each task; records of one task, or of none, are evaluated together.

        Parameters
        ----------
        metrics
            Names of metrics; empty for all of a task's kind.
        seed, draws
            Of the bootstrap.

        Raises
        ------
        ToolError
            If there is no prediction, or classes and numbers are mixed.
        UsageError
            If a metric fits no task.
        """
        if not self._pairs:
            raise ToolError("no prediction that has a right label: give records of predict, with gold", kind="empty")
        several = len(self._first.keys() - {None}) > 1
        self._whole.clear()
        tasks = [(task,) for task in self._first] if several else [tuple(self._first)]
        groups = [self._group(each, metrics) for each in tasks]
        groups = [group for group in groups if group[1]]
        known = [name for _, _, labels in groups for name in _metrics(labels)]
        if wrong := next((name for name in metrics if name not in known), None):
            raise UsageError(
                f"{param('metric')} {wrong}: these predictions are judged by {', '.join(dict.fromkeys(known))}"
            )
        for task, examples, labels in groups:
            with of_the_whole_run():
                numbers = [labels.target(example.label, example.where) for example in examples]
            predicted, gold, classes = numbers[::2], numbers[1::2], len(labels.names)
            values, chance = measure(gold, predicted, classes), chance_levels(gold, classes)
            counts = label_counts(gold, predicted, classes) if classes else []
            about: dict[str, Any] = {"labels": dict(zip(labels.names, counts, strict=True))}
            about |= {"task": task if several else None}
            for name in _metrics(labels):
                if not metrics or name in metrics:
                    interval = bootstrap(gold, predicted, classes, name, seed=seed, draws=draws)
                    yield MetricResult(name, values[name], interval, len(gold), classes, chance[name], **about)

    def doubts(self) -> Iterator[str]:
        """Yield warnings of each task whose labels may be meant otherwise than they were evaluated.

        Gold labels are numbers where its classes have names; or whole numbers have a decimal point; or names that no
        scores know are almost equal, several in one string, or none of them what was predicted.
        """
        for task, (labels, _) in self._first.items():
            pairs = [pair for pair in self._pairs if pair[0] == task]
            found = [said] if (said := doubt(labels, (gold for *_, gold in pairs))) else []
            if task in self._whole:
                said = "labels are whole numbers with a decimal point, and are evaluated as classes; as values with"
                found.append(spelled(f"{said} {param('metric')} pearson"))
            if not labels.names:
                single = (each for _, _, *both in pairs for label in both for each in classes_in(label))
                found += doubtful(Labels(tuple(dict.fromkeys(each for each in single if isinstance(each, str)))))
                found += [] if found else _strangers(pairs)
            yield from found if task is None else (f"task {task}: {said}" for said in found)

    def _group(self, tasks: tuple[str | None, ...], metrics: Sequence[str]) -> tuple[str | None, list[Example], Labels]:
        """Return the labels of some tasks, predicted and gold in turn, and the labels that they can be."""
        labels, place = self._first[tasks[0]]
        if odd := next((where for each, where in (self._first[task] for task in tasks) if each != labels), None):
            raise ToolError(f"{odd}: has other classes than {place}; give one model's records", kind="mixed")
        pairs = [pair for pair in self._pairs if pair[0] in tasks]
        examples = [Example(where, "", None, each) for _, where, *both in pairs for each in both]
        for side in (examples[::2], examples[1::2]):
            refuse_vectors(side)
        if labels.names or not examples:
            return tasks[0], examples, labels
        # Labels out of a table are text: they are numbers where all are.
        examples = with_numbers(examples)
        if not all(isinstance(example.label, float) and example.label.is_integer() for example in examples):
            task = "multilabel" if labels.multiple else "auto"
            return tasks[0], examples, learn_labels(examples, task=task, single=True)
        # pandas writes classes with a decimal point beside a gap; 1 and 1.0 are one class.
        if metrics and {*metrics} <= {*REGRESSION}:
            return tasks[0], examples, Labels()
        self._whole += [] if metrics else [tasks[0]]
        try:
            return tasks[0], examples, learn_labels(examples, task="classification", single=True)
        except ToolError as error:
            raise ToolError(f"{error.args[0]}; for values give {param('metric')} pearson", kind=error.kind) from None


def _strangers(pairs: Sequence[tuple[str | None, str, Label, Label]]) -> Iterator[str]:
    """Yield a warning where no class that was predicted is among the right ones, as one that is called otherwise."""
    predicted, gold = ({each for pair in pairs for each in classes_in(pair[side])} for side in (2, 3))
    named = any(isinstance(each, str) and value_in(each) is None for each in predicted | gold)
    if named and not predicted & gold and len(predicted | gold) > 2:  # of two, one text may be all wrong
        shown = (", ".join(sorted(map(str, each))[:3]) for each in (predicted, gold))
        yield "no label that was predicted ({}) is among the right ones ({}); are they called otherwise?".format(*shown)


def _label(record: Record, name: str, where: str, names: Sequence[str]) -> Label:
    """Return the label in one of the fields of a record; a table has lists in strings, if ``names`` has no such."""
    try:
        label = check_label(record, name, where)
    except InputError as error:
        if error.kind == "no-label" and any(is_list(record.get(each)) for each in NEEDED):
            raise InputError(f"{error.args[0]}; {EMPTY_LIST}", kind=error.kind) from None
        raise
    return label if label in names else listed(label, name, where)


def _value(gold: str, where: str) -> float:
    """Return a gold label that a table wrote beside names; an InputError if it is no value as the predicted one is."""
    if (value := value_in(gold)) is None:
        raise InputError(f"{where}: gold {gold!r:.80} is no number, as label is; leave the line out", kind="bad-label")
    return value


def _metrics(labels: Labels) -> tuple[str, ...]:
    return metrics_for(len(labels.names), multiple=labels.multiple)
