"""Metrics of classification and regression, with bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Diagonal and marginal sums of a confusion matrix, or of many at once: float64 [..., classes] each.

    Attributes
    ----------
    right
        The diagonal: true positives of each class.
    rows, columns
        The marginal sums: how often each class is a target, and how often it is predicted.

    Of multi-label data they are summed over the classes' own matrices, as there is none of all classes.
    """

    right: Floats
    rows: Floats
    columns: Floats


def accuracy(counts: Counts) -> Floats:
    """Return the share of examples whose class is predicted."""
    share: Floats = counts.right.sum(-1) / counts.rows.sum(-1)
    return share


def _f1_of_each(counts: Counts) -> Floats:
    f1: Floats = 2 * counts.right / np.maximum(counts.rows + counts.columns, 1)
    return f1


def f1(counts: Counts) -> Floats:
    """Return F1 of the second of two classes, of more classes the mean; 0 for a class neither target nor predicted."""
    each = _f1_of_each(counts)
    found: Floats = each[..., 1] if each.shape[-1] == 2 else each.mean(-1)
    return found


def macro_f1(counts: Counts) -> Floats:
    """Return the mean of all classes' F1."""
    mean: Floats = _f1_of_each(counts).mean(-1)
    return mean


def micro_f1(counts: Counts) -> Floats:
    """Return F1 of all decisions together, one a text and class; 0 where no class is target or predicted."""
    together: Floats = 2 * counts.right.sum(-1) / np.maximum((counts.rows + counts.columns).sum(-1), 1)
    return together


def matthews(counts: Counts) -> Floats:
    """Return Matthews' correlation of any number of classes (J. Gorodkin, 2004); 0 if one side has one class only."""
    n, right, rows, columns = counts.rows.sum(-1), counts.right.sum(-1), counts.rows, counts.columns
    spread = (n * n - (rows * rows).sum(-1)) * (n * n - (columns * columns).sum(-1))
    found: Floats = (right * n - (rows * columns).sum(-1)) / np.sqrt(np.where(spread > 0, spread, np.inf))
    return found


def pearson(targets: Floats, predicted: Floats, times: Floats) -> float | None:
    """Return Pearson's correlation, weighted by ``times`` (1 or more); None if one side is constant."""
    n = times.sum()
    a, b = targets - times @ targets / n, predicted - times @ predicted / n
    # Scaled first: squares of very large or small numbers leave the range of float64.
    sizes = float(np.abs(a).max()), float(np.abs(b).max())
    # What is left of a mean of equal numbers is rounding, and correlates with anything.
    floors = (1e-14 * float(np.abs(side).max()) for side in (targets, predicted))
    if any(size <= floor for size, floor in zip(sizes, floors, strict=True)):
        return None
    a, b = a / sizes[0], b / sizes[1]
    both, own, other = (float((times * x) @ y) for x, y in ((a, b), (a, a), (b, b)))
    return float(np.clip(both / math.sqrt(own * other), -1, 1))


class _Ranked:
    """Ranks of values under any weights; the values are sorted once."""

    def __init__(self, values: Floats) -> None:
        _, self._place = np.unique(values, return_inverse=True)

    def ranks(self, times: Floats) -> Floats:
        """Return the rank of each value, from 1; ties share the mean of their ranks."""
        counts = np.bincount(self._place, weights=times)
        ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[self._place]
        return ranks


def spearman(targets: _Ranked, predicted: _Ranked, times: Floats) -> float | None:
    """Return Spearman's rank correlation, weighted by ``times`` (0 or more); None if one side is constant."""
    there = times > 0
    return pearson(targets.ranks(times)[there], predicted.ranks(times)[there], times[there])


_OF_COUNTS: dict[str, Callable[[Counts], Floats]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro-f1": macro_f1,
    "matthews": matthews,
}
_OF_LISTS: dict[str, Callable[[Counts], Floats]] = {"micro-f1": micro_f1, "macro-f1": macro_f1}
CLASSIFICATION = tuple(_OF_COUNTS)
REGRESSION = ("pearson", "spearman")
MULTILABEL = (*_OF_LISTS, "accuracy")
"""Of multi-label data accuracy is the share of texts all of whose classes are predicted, and no other."""


def metrics_for(classes: int, *, multiple: bool = False) -> tuple[str, ...]:
    """Return the metrics of a task with so many classes, 0 for a regression; the first ranks by default."""
    return MULTILABEL if multiple else CLASSIFICATION if classes else REGRESSION


def default_metric(classes: int, *, multiple: bool = False) -> str:
    """Return the metric that ranks by default: accuracy, Pearson's correlation, or micro F1 of multi-label data."""
    return metrics_for(classes, multiple=multiple)[0]


def measure(targets: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> dict[str, float | None]:
    """Return every metric of a task, by name.

    Parameters
    ----------
    targets, predicted
        Class indices, 0 to ``classes`` - 1, or values: [n], at least one. Of multi-label data 0 or 1: [n, classes].
    classes
        Number of classes; 0 for a regression.

    Returns
    -------
    dict
        A metric is None if it is undefined: a correlation with a constant.
    """
    a, b = np.asarray(targets, np.float64), np.asarray(predicted, np.float64)
    if a.ndim == 2:
        every = np.ones((1, len(a)))
        return {name: float(_of_lists(name, a, b)(every)[0]) for name in MULTILABEL}
    if classes:
        counts = _ConfusionCells(a, b, classes).counts()
        return {name: float(metric(counts)) for name, metric in _OF_COUNTS.items()}
    return {name: _correlation(name, a, b)(np.ones(len(a))) for name in REGRESSION}


class _ConfusionCells:
    """The non-empty cells of a confusion matrix: there are no more of them than examples.

    Parameters
    ----------
    targets, predicted
        Class indices, [n].
    classes
        Number of classes.
    """

    def __init__(self, targets: Floats, predicted: Floats, classes: int) -> None:
        pairs, self.held = np.unique(
            targets.astype(np.int64) * classes + predicted.astype(np.int64), return_counts=True
        )
        self._row, self._column = np.divmod(pairs, classes)
        self._classes = classes

    def counts(self, held: npt.NDArray[np.int64] | None = None) -> Counts:
        """Return the sums of the cells' counts, or of others: int64 [draws, cells]."""
        if held is None:
            return Counts(*(each[0] for each in self._sums(self.held[None])))
        return Counts(*self._sums(held))

    def _sums(self, held: npt.NDArray[np.int64]) -> list[Floats]:
        right = np.where(self._row == self._column, held, 0)
        parts = ((self._row, right), (self._row, held), (self._column, held))
        return [
            np.stack([np.bincount(place, weights=each, minlength=self._classes) for each in values])
            for place, values in parts
        ]


def _of_lists(metric: str, targets: Floats, predicted: Floats) -> Callable[[Floats], Floats]:
    """Return a function from weights of the examples, [draws, n], to a metric of multi-label data, [draws]."""
    if metric == "accuracy":
        right = (targets == predicted).all(1).astype(np.float64)
        return lambda times: times @ right / times.sum(1)
    parts = targets * predicted, targets, predicted
    if metric == "micro-f1":
        parts = tuple(part.sum(1, keepdims=True) for part in parts)
    return lambda times: _OF_LISTS[metric](Counts(*(times @ part for part in parts)))


def _correlation(metric: str, targets: Floats, predicted: Floats) -> Callable[[Floats], float | None]:
    """Return a function from the weight of each example to a metric of values."""
    if metric == "spearman":
        ranked = _Ranked(targets), _Ranked(predicted)
        return lambda times: spearman(*ranked, times)

    def of_values(times: Floats) -> float | None:
        there = times > 0
        return pearson(targets[there], predicted[there], times[there])

    return of_values


def bootstrap(
    targets: npt.ArrayLike, predicted: npt.ArrayLike, classes: int, metric: str, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95% bootstrap confidence interval (percentile method) of a metric, resampling examples.

    Examples are not drawn one by one. How often each cell of the confusion matrix is drawn is multinomial; of values,
    it is counted how often each is drawn, as their order is the same in every draw.

    Parameters
    ----------
    targets, predicted, classes
        As of ``measure``.
    metric
        One of ``CLASSIFICATION`` or ``REGRESSION``.
    draws
        Resamples; fewer, but at least 200, for more than 50,000 values or cells, whose interval is narrow.

    Returns
    -------
    tuple or None
        Lower and upper bound; None for fewer than two examples, or if the metric is defined in no draw.
    """
    a, b = np.asarray(targets, np.float64), np.asarray(predicted, np.float64)
    if len(a) < 2:
        return None
    rng = np.random.default_rng(seed)
    if a.ndim == 2:
        found = _of_rows(a, b, metric, draws, rng)
    else:
        found = _of_cells(a, b, classes, metric, draws, rng) if classes else _of_values(a, b, metric, draws, rng)
    if not found:
        return None
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _enough(draws: int, items: int) -> int:
    return max(200, min(draws, 100_000_000 // items))


def _of_cells(a: Floats, b: Floats, classes: int, metric: str, draws: int, rng: np.random.Generator) -> list[float]:
    cells = _ConfusionCells(a, b, classes)
    left, found = _enough(draws, len(cells.held)), list[float]()
    at_once = max(1, 4_000_000 // (len(cells.held) + classes))
    while left > 0:
        held = rng.multinomial(len(a), cells.held / len(a), size=min(left, at_once))
        found += _OF_COUNTS[metric](cells.counts(held)).tolist()
        left -= len(held)
    return found


def _of_rows(a: Floats, b: Floats, metric: str, draws: int, rng: np.random.Generator) -> list[float]:
    of_draws, n, found = _of_lists(metric, a, b), len(a), list[float]()
    left, at_once = _enough(draws, a.size), max(1, 4_000_000 // n)
    while left > 0:
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(left, at_once)).astype(np.float64)
        found += of_draws(times).tolist()
        left -= len(times)
    return found


def _of_values(a: Floats, b: Floats, metric: str, draws: int, rng: np.random.Generator) -> list[float]:
    correlation = _correlation(metric, a, b)
    n = len(a)
    drawn = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(_enough(draws, n)))
    values = (correlation(times.astype(np.float64)) for times in drawn)
    return [value for value in values if value is not None]
