"""How well scores tell two kinds of faces apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def area_under_roc(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Give the chance that a cloaked face scores higher than a clean one, ties counting half.

    None without both, or where a score is not finite.
    """
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative or not np.isfinite(scores).all():
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def equal_error_rate(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Give the error rate at the threshold where as many positives are missed as negatives pass; None without both.

    Parameters
    ----------
    scores, labels
        float [n], higher for positives, and bool [n].
    """
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return None
    order = np.argsort(-scores, kind="stable")
    # Behind the last of equal scores only: a threshold cannot part them.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(labels[order])[ends] / positive
    alarms = np.cumsum(~labels[order])[ends] / negative
    misses, alarms = np.append(1.0, 1 - hits), np.append(0.0, alarms)
    place = int(np.argmax(alarms >= misses))
    if place == 0:
        return 0.0
    before, after = misses[place - 1] - alarms[place - 1], alarms[place] - misses[place]
    share = before / (before + after) if before + after > 0 else 0.0
    return float(misses[place - 1] + share * (misses[place] - misses[place - 1]))


def distances(a: npt.NDArray[Any], b: npt.NDArray[Any], kind: str) -> npt.NDArray[np.float64]:
    """Give the distances of all rows of ``a`` to all rows of ``b``, float64 [len(a), len(b)].

    Parameters
    ----------
    a, b
        Embeddings, [n, D] and [m, D].
    kind
        ``euclidean``, or ``cosine``: 1 minus the cosine.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    if kind == "cosine":
        a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
        cosine: npt.NDArray[np.float64] = 1 - a @ b.T
        return cosine
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    euclidean: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return euclidean


def mean_interval(values: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Give a mean and its 95% bootstrap interval over the values (percentiles)."""
    each = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).choice(each, (draws, len(each))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(each.mean()), float(low), float(high)
