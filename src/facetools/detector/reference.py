"""Choose thresholds by reference scores: those of clean faces of the source that is looked at.

Scores of a source that a detector was not calibrated on may lie elsewhere than those that it was, though cloaked faces
of that source score above its clean ones. Conformal p-values (Bates and others 2023, arXiv 2104.08279) need no more
than that the clean faces of both are alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import ceil

from _toolio.errors import ToolError, UsageError, param
from facetools.detector.decision import UNCLEAR_TIMES, Thresholds

LEAST_FACES = 19
"""With fewer, more than one clean face in twenty would be labelled cloaked."""

STEP = 1e-6
"""Scores have six decimals."""


class Reference:
    """Scores of clean faces, and the thresholds by them.

    Parameters
    ----------
    scores
        0 to 1, of six decimals; one a face.
    source
        Names them in messages.

    Raises
    ------
    ToolError
        There are fewer than ``LEAST_FACES``.
    """

    def __init__(self, scores: Iterable[float], source: str) -> None:
        self._scores, self._source = sorted(scores), source
        if len(self) < LEAST_FACES:
            raise ToolError(
                f"{source}: has scores of {len(self)} clean faces, and thresholds need {LEAST_FACES} or more; from 199"
                " on they can be for a rate of 0.005",
                kind="too-few",
            )

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def least_rate(self) -> float:
        """The lowest rate of false alarms that so many faces can tell."""
        return 1 / (len(self) + 1)

    def p_value(self, score: float) -> float:
        """Return the share of clean faces that score as high, the face itself counted among them, above 0 to 1.

        That of a new clean face is at most p with a probability of at most p, over the draw of the reference and the
        face. Given one reference of n faces, the probability to be the highest has a Beta(1, n) distribution.
        """
        return (len(self) - bisect_left(self._scores, score) + 1) / (len(self) + 1)

    def thresholds(self, false_alarms: float) -> Thresholds:
        """Return the thresholds at a rate of false alarms: faces with a p-value of at most the rate are cloaked.

        Above ten times the rate, 0.5 at most, they are clean.

        Parameters
        ----------
        false_alarms
            ``least_rate`` to 0.5.

        Raises
        ------
        UsageError
            The rate is not in that range; the message says how many faces are needed.
        ToolError
            Clean faces have a score of 1.
        """
        most = 1 - 1e-9
        if false_alarms > 0.5 or false_alarms * (len(self) + 1) < most:
            more = f", or {ceil(most / false_alarms) - 1:,} clean faces" if 0 < false_alarms <= 0.5 else ""
            raise UsageError(
                f"{param('false_alarms')} {false_alarms:g}: by {len(self)} clean faces in {self._source} it can be"
                f" {upward(self.least_rate)} to 0.5; give that{more}"
            )
        return Thresholds(false_alarms, self._above(false_alarms), self._above(min(UNCLEAR_TIMES * false_alarms, 0.5)))

    def _above(self, rate: float) -> float:
        """Return the least score whose p-value is at most a rate."""
        reached = int(rate * (len(self) + 1) + 1e-9) - 1
        threshold = round(self._scores[-1 - reached] + STEP, 6)
        if threshold > 1:
            raise ToolError(
                f"{self._source}: {reached + 1:,} or more clean faces have a score of 1, which none is above; are they"
                " clean?",
                kind="not-clean",
            )
        return threshold


def upward(rate: float) -> float:
    """Return a rate of four decimals that is not below it: what a message advises must be taken."""
    return ceil(rate * 1e4 - 1e-9) / 1e4
