"""Records of predictions with their right labels, and what the predictions are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run
from _toolio.records import Record
from berttools.metrics import CLASSIFICATION, REGRESSION, bootstrap, measure
from berttools.tasks import Example, Label, Labels, check_label, learn_labels, with_numbers

__all__ = ["Judged", "Tally"]

_SAID, _RIGHT = "label", "gold"


@dataclass(frozen=True, slots=True)
class Judged:
    """One metric of all predictions.

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
    """

    metric: str
    value: float | None
    interval: tuple[float, float] | None
    count: int
    classes: int


@dataclass
class Tally:
    """Predictions, and the labels that would have been right."""

    _pairs: list[tuple[str, Label, Label]] = field(default_factory=list)
    _names: tuple[str, ...] | None = None
    _first: str = ""

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, record: Record, where: str) -> None:
        """Take a record of ``predict``, or any with ``label`` and ``gold``.

        Raises
        ------
        InputError
            It lacks one of them, or is of a model with other classes than the first record's.
        """
        said, right = (check_label(record, name, where) for name in (_SAID, _RIGHT))
        scores = record.get("scores")
        names = tuple(scores) if isinstance(scores, dict) else ()
        if self._names is None:
            self._names, self._first = names, where
        if names != self._names:
            raise InputError(f"{where}: has other classes than {self._first}; give one model's records", kind="mixed")
        if names:
            labels = Labels(names, numbered=True)
            for label in (said, right):
                labels.number(label, where, "its scores name")
        self._pairs.append((where, said, right))

    def judge(self, metric: str | None, *, seed: int = 0, draws: int = 2000) -> Iterator[Judged]:
        """Give a metric, or all of the task's.

        Raises
        ------
        ToolError
            There is no prediction, or classes and numbers are mixed.
        UsageError
            The metric is of the other kind of task.
        """
        if not self._pairs:
            raise ToolError("no prediction that has a right label: give records of predict, with gold", kind="empty")
        examples = [Example(where, "", None, each) for where, *both in self._pairs for each in both]
        # Labels out of a table are text: they are numbers where all are.
        examples = examples if self._names else with_numbers(examples)
        labels = Labels(self._names, numbered=True) if self._names else learn_labels(examples, single=True)
        known = REGRESSION if labels.regression else CLASSIFICATION
        if metric and metric not in known:
            raise UsageError(f"--metric {metric}: these predictions are judged by {', '.join(known)}")
        with of_the_whole_run():
            numbers = [labels.number(example.label, example.where) for example in examples]
        said, right = numbers[::2], numbers[1::2]
        classes = len(labels.names)
        values = measure(right, said, classes)
        for name in (metric,) if metric else known:
            interval = bootstrap(right, said, classes, name, seed=seed, draws=draws)
            yield Judged(name, values[name], interval, len(right), classes)
