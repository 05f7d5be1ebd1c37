"""How well predictions meet labels, and how sure of that a number of examples makes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """What metrics of classes need of a confusion matrix, of one or of many at once: float64 [..., classes] each.

    Attributes
    ----------
    right
        Its diagonal: how often each class was found.
    rows, columns
        Its sums: how often each class is there, and how often it was said.
    """

    right: Numbers
    rows: Numbers
    columns: Numbers


def accuracy(counts: Counts) -> Numbers:
    """Share of examples whose class was found."""
    share: Numbers = counts.right.sum(-1) / counts.rows.sum(-1)
    return share


def _f1_of_each(counts: Counts) -> Numbers:
    f1: Numbers = 2 * counts.right / np.maximum(counts.rows + counts.columns, 1)
    return f1


def f1(counts: Counts) -> Numbers:
    """F1 of the second of two classes; of more classes the mean. 0 where a class is neither there nor said."""
    each = _f1_of_each(counts)
    found: Numbers = each[..., 1] if each.shape[-1] == 2 else each.mean(-1)
    return found


def macro_f1(counts: Counts) -> Numbers:
    """Mean of all classes' F1."""
    mean: Numbers = _f1_of_each(counts).mean(-1)
    return mean


def matthews(counts: Counts) -> Numbers:
    """Matthews' correlation of any number of classes (J. Gorodkin, 2004); 0 where one side has one class only."""
    n, right, rows, columns = counts.rows.sum(-1), counts.right.sum(-1), counts.rows, counts.columns
    spread = (n * n - (rows * rows).sum(-1)) * (n * n - (columns * columns).sum(-1))
    found: Numbers = (right * n - (rows * columns).sum(-1)) / np.sqrt(np.where(spread > 0, spread, np.inf))
    return found


def pearson(truth: Numbers, said: Numbers, times: Numbers) -> float | None:
    """Correlation of values, each of which counts so many times, 1 or more; None where one side has one value only."""
    n = times.sum()
    a, b = truth - times @ truth / n, said - times @ said / n
    # Scaled first: squares of very large or small numbers leave the range of float64.
    sizes = float(np.abs(a).max()), float(np.abs(b).max())
    # What is left of a mean of equal numbers is rounding, and correlates with anything.
    floors = (1e-14 * float(np.abs(side).max()) for side in (truth, said))
    if any(size <= floor for size, floor in zip(sizes, floors, strict=True)):
        return None
    a, b = a / sizes[0], b / sizes[1]
    both, own, other = (float((times * x) @ y) for x, y in ((a, b), (a, a), (b, b)))
    return float(np.clip(both / math.sqrt(own * other), -1, 1))


class _Ranked:
    """Values that were sorted once: their ranks from 1, however many times each counts."""

    def __init__(self, values: Numbers) -> None:
        _, self._place = np.unique(values, return_inverse=True)

    def ranks(self, times: Numbers) -> Numbers:
        """Give the rank of each value; equal ones share the mean of their ranks."""
        counts = np.bincount(self._place, weights=times)
        ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[self._place]
        return ranks


def spearman(truth: _Ranked, said: _Ranked, times: Numbers) -> float | None:
    """Correlation of ranks, of values that count so many times, 0 or more; None where one side has one value only."""
    there = times > 0
    return pearson(truth.ranks(times)[there], said.ranks(times)[there], times[there])


_OF_COUNTS: dict[str, Callable[[Counts], Numbers]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro-f1": macro_f1,
    "matthews": matthews,
}
CLASSIFICATION = tuple(_OF_COUNTS)
REGRESSION = ("pearson", "spearman")


def default_metric(classes: int) -> str:
    """Name the metric that ranks: accuracy for classes, Pearson's correlation for a regression (0 classes)."""
    return CLASSIFICATION[0] if classes else REGRESSION[0]


def measure(truth: npt.ArrayLike, said: npt.ArrayLike, classes: int) -> dict[str, float | None]:
    """Give every metric of a task.

    Parameters
    ----------
    truth, said
        Numbers of classes, 0 to ``classes`` - 1, or values: [n], one at least.
    classes
        How many there are; 0 for a regression.

    Returns
    -------
    dict
        None where a metric does not exist: a correlation with a constant.
    """
    a, b = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    if classes:
        counts = _Cells(a, b, classes).counts()
        return {name: float(metric(counts)) for name, metric in _OF_COUNTS.items()}
    return {name: _correlation(name, a, b)(np.ones(len(a))) for name in REGRESSION}


class _Cells:
    """The cells of a confusion matrix that hold anything: there are no more of them than examples.

    Parameters
    ----------
    truth, said
        Numbers of classes, [n].
    classes
        How many there are.
    """

    def __init__(self, truth: Numbers, said: Numbers, classes: int) -> None:
        pairs, self.held = np.unique(truth.astype(np.int64) * classes + said.astype(np.int64), return_counts=True)
        self._row, self._column = np.divmod(pairs, classes)
        self._classes = classes

    def counts(self, held: npt.NDArray[np.int64] | None = None) -> Counts:
        """Add up what the cells hold, or would: int64 [draws, cells]."""
        if held is None:
            return Counts(*(each[0] for each in self._sums(self.held[None])))
        return Counts(*self._sums(held))

    def _sums(self, held: npt.NDArray[np.int64]) -> list[Numbers]:
        right = np.where(self._row == self._column, held, 0)
        parts = ((self._row, right), (self._row, held), (self._column, held))
        return [
            np.stack([np.bincount(place, weights=each, minlength=self._classes) for each in values])
            for place, values in parts
        ]


def _correlation(metric: str, truth: Numbers, said: Numbers) -> Callable[[Numbers], float | None]:
    """Prepare a metric of values; what comes back takes how many times each example counts."""
    if metric == "spearman":
        ranked = _Ranked(truth), _Ranked(said)
        return lambda times: spearman(*ranked, times)

    def of_values(times: Numbers) -> float | None:
        there = times > 0
        return pearson(truth[there], said[there], times[there])

    return of_values


def bootstrap(
    truth: npt.ArrayLike, said: npt.ArrayLike, classes: int, metric: str, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Give the 95% bootstrap interval (percentiles) of a metric, over examples.

    Examples are not drawn one by one. How often each cell of the confusion matrix is drawn is multinomial; of values,
    it is counted how often each was drawn, and their order is the same in every draw.

    Parameters
    ----------
    truth, said, classes
        As of ``measure``.
    metric
        One of ``CLASSIFICATION`` or ``REGRESSION``.
    draws
        Fewer are drawn of more than 50,000 values, or cells of the matrix, 200 at least: the interval is narrow then.

    Returns
    -------
    tuple or None
        None for fewer than two examples, and where the metric exists in no draw.
    """
    a, b = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    if len(a) < 2:
        return None
    rng = np.random.default_rng(seed)
    found = _of_cells(a, b, classes, metric, draws, rng) if classes else _of_values(a, b, metric, draws, rng)
    if not found:
        return None
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _enough(draws: int, items: int) -> int:
    return max(200, min(draws, 100_000_000 // items))


def _of_cells(a: Numbers, b: Numbers, classes: int, metric: str, draws: int, rng: np.random.Generator) -> list[float]:
    cells = _Cells(a, b, classes)
    left, found = _enough(draws, len(cells.held)), list[float]()
    at_once = max(1, 4_000_000 // (len(cells.held) + classes))
    while left > 0:
        held = rng.multinomial(len(a), cells.held / len(a), size=min(left, at_once))
        found += _OF_COUNTS[metric](cells.counts(held)).tolist()
        left -= len(held)
    return found


def _of_values(a: Numbers, b: Numbers, metric: str, draws: int, rng: np.random.Generator) -> list[float]:
    correlation = _correlation(metric, a, b)
    n = len(a)
    drawn = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(_enough(draws, n)))
    values = (correlation(times.astype(np.float64)) for times in drawn)
    return [value for value in values if value is not None]
