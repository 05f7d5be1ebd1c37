"""What predictions score that say the same of every text, and how often each label is predicted."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from berttools.texts.metrics import MULTILABEL, REGRESSION


def chance_levels(targets: npt.ArrayLike, classes: int) -> dict[str, float]:
    """Return the largest value of each metric that a prediction has which is the same for every text.

    Of accuracy it is the majority's share. There is no correlation with a constant: its level is 0, the mean of random
    predictions.

    Parameters
    ----------
    targets
        As of ``berttools.texts.metrics.measure``.
    classes
        Number of classes; 0 for a regression.
    """
    values = np.asarray(targets, np.float64)
    if values.ndim == 2:
        return dict(zip(MULTILABEL, _of_lists(values), strict=True))
    if not classes:
        return dict.fromkeys(REGRESSION, 0.0)
    shares = np.bincount(values.astype(np.int64), minlength=classes) / len(values)
    # Where a class with a share of p is predicted throughout, its precision is p and its recall 1; others have F1 0.
    f1 = 2 * shares / (1 + shares)
    return {
        "accuracy": float(shares.max()),
        "f1": float(f1[1] if classes == 2 else f1.max() / classes),
        "macro-f1": float(f1.max() / classes),
        "matthews": 0.0,
    }


def _of_lists(held: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the levels of micro F1, macro F1 and accuracy for targets of 0 or 1, [n, classes]."""
    shares = np.sort(held.mean(0))[::-1]
    # The best constant list of k classes is of the k most frequent.
    micro = 2 * shares.cumsum() / (np.arange(1, len(shares) + 1) + shares.sum())
    _, times = np.unique(held, axis=0, return_counts=True)
    return float(micro.max()), float((2 * shares / (1 + shares)).mean()), float(times.max() / len(held))


def standard_error(metric: str, level: float, examples: int) -> float:
    """Return how far a metric of so many texts is from its chance level by chance: about one standard error.

    It is that of a share; of a correlation of unrelated values or classes about 1 / sqrt(n).
    """
    spread = 1.0 if metric in (*REGRESSION, "matthews") else math.sqrt(level * (1 - level))
    return spread / math.sqrt(examples)


def label_counts(targets: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> list[dict[str, int]]:
    """Return for each class how often it is a target (``gold``), is ``predicted``, and is both (``right``).

    Parameters as of ``berttools.texts.metrics.measure``; of multi-label data a text counts for each of its classes.
    """
    a, b = (_indicators(np.asarray(each, np.float64), classes) for each in (targets, predicted))
    counts = zip(a.sum(0), b.sum(0), (a * b).sum(0), strict=True)
    return [dict(zip(("gold", "predicted", "right"), map(int, each), strict=True)) for each in counts]


def _indicators(values: npt.NDArray[np.float64], classes: int) -> npt.NDArray[np.float64]:
    return values if values.ndim == 2 else (values[:, None] == np.arange(classes)).astype(np.float64)
