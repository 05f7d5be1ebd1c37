"""Metrics of binary scores, and their confidence intervals: ROC, AUC, equal error rate, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt


def area_under_roc(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Return the area under the ROC curve (AUC); None without both labels, or if a score is not finite.

    It is the probability that a positive scores higher than a negative, ties counting half (Mann-Whitney).

    Parameters
    ----------
    scores, labels
        float [n], higher for positives, and bool [n].
    """
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative or not np.isfinite(scores).all():
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def roc_points(
    scores: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the ROC curve: false and true positive rates at every threshold that matters, from (0, 0) to (1, 1).

    Parameters
    ----------
    scores, labels
        float [n], higher for positives, and bool [n]; both labels must occur.

    Returns
    -------
    alarms, hits
        float64 [k + 1] for k different scores: false positive rates (FAR) and true positive rates (TAR).
    """
    order = np.argsort(-scores, kind="stable")
    # Behind the last of equal scores only: a threshold cannot part them.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, alarms = (np.cumsum(part[order])[ends] / part.sum() for part in (labels, ~labels))
    return np.append(0.0, alarms), np.append(0.0, hits)


def equal_error_rate(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Return the equal error rate, where false negative and false positive rate meet; None without both labels.

    Parameters
    ----------
    scores, labels
        float [n], higher for positives, and bool [n].
    """
    if labels.all() or not labels.any():
        return None
    alarms, hits = roc_points(scores, labels)
    misses = 1 - hits
    # Never the first, where the false positive rate is 0 and the false negative rate 1.
    place = int(np.argmax(alarms >= misses))
    before, after = misses[place - 1] - alarms[place - 1], alarms[place] - misses[place]
    share = before / (before + after)
    return float(misses[place - 1] + share * (misses[place] - misses[place - 1]))


def area_interval(
    scores: npt.NDArray[Any], labels: npt.NDArray[Any], groups: npt.NDArray[Any], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95% percentile bootstrap interval of the AUC, resampling groups such as people.

    A group is resampled with all its faces, clean and cloaked: faces of one person are not independent.

    Parameters
    ----------
    scores, labels, groups
        float [n], bool [n], and int [n], the group of each, from 0 without a gap.
    draws
        Resamples; fewer for more than 50,000 scores, 200 at least: the interval is narrow then.

    Returns
    -------
    tuple or None
        None without both labels, or with fewer than two groups.
    """
    many = int(groups.max(initial=-1)) + 1
    if many < 2 or labels.all() or not labels.any():
        return None
    order = np.argsort(scores, kind="stable")
    hidden, which = labels[order], groups[order]
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(max(200, min(draws, 100_000_000 // len(scores)))):
        times = np.bincount(rng.integers(many, size=many), minlength=many).astype(np.float64)[which]
        positive, negative = (np.add.reduceat(times * part, starts) for part in (hidden, ~hidden))
        pairs = positive.sum() * negative.sum()
        if pairs:  # a resample of few people may lack one label
            areas.append(positive @ (np.cumsum(negative) - negative / 2) / pairs)
    low, high = np.percentile(areas, (2.5, 97.5))
    return float(low), float(high)


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a proportion (1927), which lies in 0 to 1 and has a width at 0 and 1."""
    z2 = 1.959963984540054**2
    middle = (hits + z2 / 2) / (of + z2)
    half = (z2 * (hits * (of - hits) / of + z2 / 4)) ** 0.5 / (of + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_interval_over(
    hits: npt.NDArray[np.bool_], groups: npt.NDArray[Any], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return a 95% interval of a proportion over faces that are not independent, since several are of one group.

    It is the percentile bootstrap over groups; where all faces or none are hits that has no width, and it is Wilson's
    interval of as many draws as there are groups.

    Parameters
    ----------
    hits
        bool [n], one at least.
    groups
        int [n], from 0 without a gap: the person or photo of each face.
    """
    many = int(groups.max()) + 1
    if hits.all() or not hits.any():
        return share_interval(many if hits.all() else 0, many)
    found, of = (np.bincount(groups, weights=each, minlength=many) for each in (hits, np.ones(len(hits))))
    drawn = np.random.default_rng(seed).integers(many, size=(draws, many))
    low, high = np.percentile(found[drawn].sum(1) / of[drawn].sum(1), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Bin:
    """Faces with similar scores.

    Attributes
    ----------
    score
        Their mean score.
    cloaked, interval
        The share of cloaked faces, and its 95% interval.
    faces
        Number of faces.
    weight
        Weight among all bins, whose weights sum to 1.
    """

    score: float
    cloaked: float
    interval: tuple[float, float]
    faces: int
    weight: float


def calibration_bins(
    scores: npt.NDArray[Any], labels: npt.NDArray[Any], *, most: int = 10, least: int = 10, at_a_half: bool = False
) -> list[Bin]:
    """Divide scores into bins of as nearly equal numbers as ties allow, lowest first.

    Parameters
    ----------
    scores, labels
        float [n] in 0 to 1, and bool [n]; n is 1 or more.
    most, least
        Bins at most, and scores in a bin at least, unless there are fewer.
    at_a_half
        Weight faces as if half of them were cloaked, whatever their share is; both labels must occur.
    """
    odds = (len(labels) - labels.sum()) / labels.sum() if at_a_half else 1.0
    order = np.argsort(scores, kind="stable")
    ranked, hidden = scores[order], labels[order]
    bins = max(1, min(most, len(ranked) // least))
    cuts = np.arange(1, bins + 1) * len(ranked) // bins
    # Equal scores stay together: a cut moves behind the last of them.
    ends = [0, *np.unique(np.searchsorted(ranked, ranked[cuts - 1], side="right")).tolist()]
    parts = [slice(start, end) for start, end in pairwise(ends)]
    weights = np.where(hidden, odds, 1.0)
    weights /= weights.sum()
    return [_bin(ranked[part], hidden[part], weights[part], odds) for part in parts]


def _bin(scores: npt.NDArray[Any], labels: npt.NDArray[Any], weights: npt.NDArray[Any], odds: float) -> Bin:
    low, high = share_interval(int(labels.sum()), len(labels))
    # A cloaked face weighs odds times a clean one: so do the proportions at both ends.
    interval = tuple(float(odds * share / (odds * share + 1 - share)) for share in (low, high))
    total = float(weights.sum())
    mean, cloaked = (float(values @ weights) / total for values in (scores, labels.astype(float)))
    return Bin(mean, cloaked, (interval[0], interval[1]), len(labels), total)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the weighted mean over bins of |mean score - share of cloaked faces|."""
    return sum(abs(each.score - each.cloaked) * each.weight for each in bins)


def mean_interval(values: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Return a mean and its 95% percentile bootstrap interval."""
    each = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).choice(each, (draws, len(each))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(each.mean()), float(low), float(high)
