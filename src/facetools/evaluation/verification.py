"""Verification at fixed false accept rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from facetools.embeddings.distances import distances
from facetools.embeddings.thresholds import FALSE_ACCEPT_RATES, accept_limits
from facetools.evaluation.classifiers.embedding_classifiers import BLOCK, Rows, Task
from facetools.evaluation.splits import Numbers


class Verifier:
    """Verification: two photos are accepted as one person's up to a distance set by the false accept rate (FAR).

    Distance limits are set on clean photos: impostor pairs of tests and other people's training photos, of all folds.

    Parameters
    ----------
    tasks
        The folds.

    Attributes
    ----------
    limits
        For each of ``FALSE_ACCEPT_RATES`` the largest accepted distance; NaN where there are too few impostor pairs
        for one to be accepted.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        pairs = sum(len(task.test) * len(task.train) for task in tasks)
        self.limits = accept_limits(self._impostors(), pairs, FALSE_ACCEPT_RATES)

    def _impostors(self) -> Iterator[npt.NDArray[np.float64]]:
        for task in self._tasks:
            for first in range(0, len(task.test), BLOCK):
                part = slice(first, first + BLOCK)
                apart = distances(task.test[part], task.train, task.distance)
                yield apart[task.test_labels[part, None] != task.train_labels]

    def accepted(self, fold: int, person: int, rows: Rows | None = None) -> Numbers:
        """Count genuine pairs: a person's clean tests in one fold against ``rows`` (None: clean training photos).

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
    """Return the true accept rate (TAR) at each false accept rate (FAR), None where no limit could be set."""
    pairs, *hits = counts.tolist()
    known = zip(FALSE_ACCEPT_RATES, hits, limits, strict=True)
    return {f"{rate:g}": None if np.isnan(limit) else hit / pairs for rate, hit, limit in known}
