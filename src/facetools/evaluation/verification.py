"""Verification at fixed false accept rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from facetools.embeddings.distances import distances
from facetools.evaluation.classifiers.embedding_classifiers import BLOCK, Rows, Task
from facetools.evaluation.splits import Numbers

FALSE_ACCEPT_RATES = (1e-3, 1e-4)


class Verifier:
    """Decides whether two photos show one person, at distances that few pairs of different people fall below.

    The limits are set on clean photos, nobody cloaked: tests against training photos of other people, of all folds.

    Parameters
    ----------
    tasks
        The folds.

    Attributes
    ----------
    limits
        For each of ``FALSE_ACCEPT_RATES`` the largest distance that is accepted; NaN where there are too few pairs
        for one of them to pass.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        # No more than the largest rate lets pass is needed: memory stays small however many pairs there are.
        most = math.ceil(FALSE_ACCEPT_RATES[0] * sum(len(task.test) * len(task.train) for task in tasks)) + 1
        nearest, pairs = np.empty(0), 0
        for task in tasks:
            for first in range(0, len(task.test), BLOCK):
                part = slice(first, first + BLOCK)
                apart = distances(task.test[part], task.train, task.distance)
                others = apart[task.test_labels[part, None] != task.train_labels]
                pairs += len(others)
                nearest = np.sort(np.concatenate([nearest, others]))[:most]
        passing = [math.floor(rate * pairs) for rate in FALSE_ACCEPT_RATES]
        self.limits = np.array([np.nextafter(nearest[few], -np.inf) if few else np.nan for few in passing])

    def accepted(self, fold: int, person: int, rows: Rows | None = None) -> Numbers:
        """Count a person's clean tests in one fold against ``rows`` (None: their clean training photos).

        Returns
        -------
        int [1 + rates]
            Pairs, and those accepted at each limit.
        """
        task = self._tasks[fold]
        own = task.train[task.train_labels == person] if rows is None else rows
        apart = distances(task.test[task.test_labels == person], own, task.distance)
        return np.array([apart.size, *(int((apart <= limit).sum()) for limit in self.limits)], np.int64)


def rates(counts: Numbers, limits: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Give the true accept rate at each false accept rate, None where no limit could be set."""
    pairs, *hits = counts.tolist()
    known = zip(FALSE_ACCEPT_RATES, hits, limits, strict=True)
    return {f"{rate:g}": None if np.isnan(limit) else hit / pairs for rate, hit, limit in known}
