"""How well predictions meet labels, and how sure of that a number of examples makes one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["CLASSIFICATION", "METRICS", "REGRESSION", "bootstrap", "default_metric", "measure"]

Numbers = npt.NDArray[np.float64]
Metric = Callable[[Numbers, Numbers, int], float | None]


def accuracy(truth: Numbers, said: Numbers, classes: int) -> float:
    """Share of examples whose class was found."""
    del classes
    return float((truth == said).mean())


def _confusion(truth: Numbers, said: Numbers, classes: int) -> npt.NDArray[np.float64]:
    """Count how often each class (row) was taken for each (column): float64 [classes, classes]."""
    pairs = truth.astype(np.int64) * classes + said.astype(np.int64)
    counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return counts.astype(np.float64)


def _f1_of_each(truth: Numbers, said: Numbers, classes: int) -> npt.NDArray[np.float64]:
    counts = _confusion(truth, said, classes)
    both = counts.sum(0) + counts.sum(1)
    f1: npt.NDArray[np.float64] = 2 * np.diag(counts) / np.maximum(both, 1)
    return f1


def f1(truth: Numbers, said: Numbers, classes: int) -> float:
    """F1 of the second of two classes; of more classes the mean. 0 where a class is neither there nor said."""
    each = _f1_of_each(truth, said, classes)
    return float(each[1] if classes == 2 else each.mean())


def macro_f1(truth: Numbers, said: Numbers, classes: int) -> float:
    """Mean of all classes' F1."""
    return float(_f1_of_each(truth, said, classes).mean())


def matthews(truth: Numbers, said: Numbers, classes: int) -> float:
    """Matthews' correlation of any number of classes (J. Gorodkin, 2004); 0 where one side has one class only."""
    counts = _confusion(truth, said, classes)
    n, right, rows, columns = counts.sum(), np.trace(counts), counts.sum(1), counts.sum(0)
    spread = (n * n - rows @ rows) * (n * n - columns @ columns)
    return float((right * n - rows @ columns) / math.sqrt(spread)) if spread > 0 else 0.0


def pearson(truth: Numbers, said: Numbers, classes: int = 0) -> float | None:
    """Correlation of values; None where one side has one value only."""
    del classes
    a, b = truth - truth.mean(), said - said.mean()
    # Scaled first: squares of very large or small numbers leave the range of float64.
    sizes = float(np.abs(a).max()), float(np.abs(b).max())
    # What is left of a mean of equal numbers is rounding, and correlates with anything.
    floors = (1e-14 * float(np.abs(side).max()) for side in (truth, said))
    if any(size <= floor for size, floor in zip(sizes, floors, strict=True)):
        return None
    a, b = a / sizes[0], b / sizes[1]
    return float(np.clip(a @ b / math.sqrt(float(a @ a) * float(b @ b)), -1, 1))


def _ranks(values: Numbers) -> npt.NDArray[np.float64]:
    """Rank from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def spearman(truth: Numbers, said: Numbers, classes: int = 0) -> float | None:
    """Correlation of ranks; None where one side has one value only."""
    del classes
    return pearson(_ranks(truth), _ranks(said))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro-f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
CLASSIFICATION = ("accuracy", "f1", "macro-f1", "matthews")
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
    return {name: METRICS[name](a, b, classes) for name in (CLASSIFICATION if classes else REGRESSION)}


def bootstrap(
    truth: npt.ArrayLike, said: npt.ArrayLike, classes: int, metric: str, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Give the 95% bootstrap interval (percentiles) of a metric, over examples.

    Parameters
    ----------
    truth, said, classes
        As of ``measure``.
    metric
        One of ``METRICS``.
    draws
        Fewer are drawn of more than 50,000 examples, 200 at least: the interval is narrow then.

    Returns
    -------
    tuple or None
        None for fewer than two examples, and where the metric exists in no draw.
    """
    a, b = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    if len(a) < 2:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(max(200, min(draws, 100_000_000 // len(a)))):
        drawn = rng.integers(len(a), size=len(a))
        value = METRICS[metric](a[drawn], b[drawn], classes)
        if value is not None:
            found.append(value)
    if not found:
        return None
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)
