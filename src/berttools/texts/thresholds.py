"""The probability from which on a class of multi-label data is predicted, chosen class by class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DEFAULT = 0.5
DECIMALS = 6
"""Of probabilities: further digits depend on which texts are in a batch, and records have no more."""

Floats = npt.NDArray[np.float64]


def probabilities(logits: npt.ArrayLike) -> Floats:
    """Return the sigmoid of logits, rounded to ``DECIMALS``, so that a record's numbers decide what it says."""
    values = np.asarray(logits, np.float64)
    return np.asarray(np.round(np.exp(-np.logaddexp(0.0, -values)), DECIMALS), np.float64)


def choose_thresholds(chances: Floats, targets: Floats) -> list[float]:
    """Return for each class the threshold of the largest F1.

    Thresholds lie halfway between probabilities that occur, or between 0 and the lowest, or at 0.5; of equally good
    ones the nearest to 0.5 is chosen. A class that is no target keeps 0.5: nothing says what would be better. Lipton,
    Elkan and Narayanaswamy 2014, arXiv 1402.1892.

    Parameters
    ----------
    chances
        Probabilities, [n, classes].
    targets
        0 or 1, [n, classes].
    """
    return [_best(chances[:, number], targets[:, number]) for number in range(chances.shape[1])]


def _best(chances: Floats, targets: Floats) -> float:
    if not targets.any():
        return DEFAULT
    values, place = np.unique(chances, return_inverse=True)
    # How many targets, and how many texts, have at least each of these probabilities.
    right = np.bincount(place, weights=targets)[::-1].cumsum()[::-1]
    predicted = np.bincount(place)[::-1].cumsum()[::-1]
    f1 = 2 * right / (predicted + targets.sum())
    below = np.concatenate([[0.0], values[:-1]])
    limits = np.round((below + values) / 2, DECIMALS + 1)  # each threshold in between is as good
    limits[(below < DEFAULT) & (values >= DEFAULT)] = DEFAULT
    best = limits[f1 == f1.max()]
    return float(best[np.abs(best - DEFAULT).argmin()])
