"""Records of predictions with their right labels, and what the predictions are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run
from _toolio.streams.records import Record
from berttools.texts.examples import Example, Label, check_label, with_numbers
from berttools.texts.labels import Labels, learn_labels
from berttools.texts.metrics import CLASSIFICATION, REGRESSION, bootstrap, measure

NEEDED = ("label", "gold")
"""What a record must have: what was said, and what is right."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One metric of all predictions, or of those of one task.

    Attributes
    ----------
    metric, value
        Its name, and what it is; None where it does not exist.
    interval
        95%, by bootstrap over the predictions; None where there is none.
    count
        Predictions.
    classes
        How many; 0 for a regression.
    task
        Of which task; None where all are judged together, and of those without a task.
    """

    metric: str
    value: float | None
    interval: tuple[float, float] | None
    count: int
    classes: int
    task: str | None = None


@dataclass
class Tally:
    """Predictions, and the labels that would have been right."""

    _pairs: list[tuple[str | None, str, Label, Label]] = field(default_factory=list)
    _first: dict[str | None, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    """Of each task the classes and place of its first record."""

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, record: Record, where: str) -> None:
        """Take a record of ``predict``, or any with ``label`` and ``gold``.

        Raises
        ------
        InputError
            It lacks one of them, or is of a model with other classes than the first record of its task.
        """
        said, right = (check_label(record, name, where) for name in NEEDED)
        scores, task = record.get("scores"), record.get("task")
        names = tuple(scores) if isinstance(scores, dict) else ()
        key = None if task is None or task == "" else str(task)
        first, place = self._first.setdefault(key, (names, where))
        if names != first:
            raise InputError(f"{where}: has other classes than {place}; give one model's records", kind="mixed")
        if names:
            labels = Labels(names, numbered=True)
            for label in (said, right):
                labels.number(label, where, "its scores name")
        self._pairs.append((key, where, said, right))

    def judge(self, metrics: Sequence[str] = (), *, seed: int = 0, draws: int = 2000) -> Iterator[Judged]:
        """Give some metrics, or all; of each task those of its kind, of one task or none all records together.

        Raises
        ------
        ToolError
            There is no prediction, or classes and numbers are mixed.
        UsageError
            A metric is of another kind than every task.
        """
        if not self._pairs:
            raise ToolError("no prediction that has a right label: give records of predict, with gold", kind="empty")
        several = len(self._first.keys() - {None}) > 1
        groups = [self._group(task) for task in self._first] if several else [self._group(*self._first)]
        groups = [group for group in groups if group[1]]
        known = [name for _, _, labels in groups for name in _metrics(labels)]
        if wrong := next((name for name in metrics if name not in known), None):
            raise UsageError(f"--metric {wrong}: these predictions are judged by {', '.join(dict.fromkeys(known))}")
        for task, examples, labels in groups:
            with of_the_whole_run():
                numbers = [labels.number(example.label, example.where) for example in examples]
            said, right, classes = numbers[::2], numbers[1::2], len(labels.names)
            values = measure(right, said, classes)
            for name in _metrics(labels):
                if not metrics or name in metrics:
                    interval = bootstrap(right, said, classes, name, seed=seed, draws=draws)
                    yield Judged(name, values[name], interval, len(right), classes, task if several else None)

    def _group(self, *tasks: str | None) -> tuple[str | None, list[Example], Labels]:
        """Give the labels of some tasks, said and right in turn, and what they can be."""
        names, place = self._first[tasks[0]]
        if odd := next((where for each, where in (self._first[task] for task in tasks) if each != names), None):
            raise ToolError(f"{odd}: has other classes than {place}; give one model's records", kind="mixed")
        pairs = [pair for pair in self._pairs if pair[0] in tasks]
        examples = [Example(where, "", None, each) for _, where, *both in pairs for each in both]
        if names or not examples:
            return tasks[0], examples, Labels(names, numbered=True)
        # Labels out of a table are text: they are numbers where all are.
        examples = with_numbers(examples)
        return tasks[0], examples, learn_labels(examples, single=True)


def _metrics(labels: Labels) -> tuple[str, ...]:
    return REGRESSION if labels.regression else CLASSIFICATION
