"""Choose thresholds on clean faces of one's own, from the same camera, site or archive as those that are looked at.

What a detector was calibrated on may score otherwise than a source that it has never seen, though cloaked faces of that
source score above its clean ones. Conformal p-values (Bates and others 2023, arXiv 2104.08279) need no more than that
the clean faces of both are alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import ceil

from _toolio.errors import ToolError, UsageError, param
from facetools.detector.decision import FALSE_ALARMS, UNCLEAR_TIMES, Thresholds

LEAST_FACES = 19
"""With fewer, more than one clean face in twenty could be labelled cloaked."""

STEP = 1e-6
"""Scores have six decimals."""


class OwnClean:
    """Clean faces, by their scores.

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
                f"{param('clean')} {source}: has scores of {len(self)} clean faces, and thresholds need"
                f" {LEAST_FACES} or more; of 199 on they can hold for a rate of 0.005",
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

        That of a clean face is at most p with a probability of at most p.
        """
        return (len(self) - bisect_left(self._scores, score) + 1) / (len(self) + 1)

    def thresholds(self, false_alarms: float | None = None) -> Thresholds:
        """Return the thresholds at a rate of false alarms: faces with a p-value of at most the rate are cloaked.

        From ten times the rate on, 0.5 at most, they are clean. By default the rate is that of detectors, or the lowest
        that the faces can tell.

        Raises
        ------
        UsageError
            There are too few faces for the rate; the message says how many are needed.
        """
        rate = max(FALSE_ALARMS, self.least_rate) if false_alarms is None else false_alarms
        if rate * (len(self) + 1) < 1 - 1e-9:
            more = f", or {ceil(1 / rate - 1e-9) - 1:,} faces" if rate else ""
            raise UsageError(
                f"{param('false_alarms')} {rate:g}: of {len(self)} clean faces in {self._source} thresholds are for"
                f" {self.least_rate:.4f} or more; give that{more}"
            )
        return Thresholds(rate, self._above(rate), self._above(min(UNCLEAR_TIMES * rate, 0.5)))

    def _above(self, rate: float) -> float:
        """Return the least score whose p-value is at most a rate."""
        reached = int(rate * (len(self) + 1) + 1e-9) - 1
        return round(self._scores[-1 - reached] + STEP, 6)
