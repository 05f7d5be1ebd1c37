"""Distances up to which two faces are taken for one person's, by their false accept rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, UsageError, param
from facetools.embeddings.matching import BLOCK, Faces, block_distances

FALSE_ACCEPT_RATES = (1e-3, 1e-4)

LEAST_ACCEPTED = 10
"""Pairs of different people that must be within a limit for it to be one: fewer are chance."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Limits of one extractor.

    Attributes
    ----------
    limits
        Largest distance of two faces of one person, by false accept rate.
    source
        What they were measured on.
    """

    limits: Mapping[float, float]
    source: str


MEASURED: Mapping[str, Measured] = {
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30": Measured(  # dlib-resnet
        {1e-3: 0.541, 1e-4: 0.4699},
        "LFW: 1,440 people, 28,403,866 pairs",
    ),
}
"""By sha256 of the extractor's weights; docs/results/matching.md has intervals, and what they are elsewhere."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A distance up to which two faces are taken for one person's.

    Attributes
    ----------
    distance
        The largest one.
    far
        Its false accept rate; None where it was given as it is.
    source
        What it was measured on.
    """

    distance: float
    far: float | None
    source: str


def measured_threshold(extractor: Mapping[str, Any], far: float) -> Threshold:
    """Return the measured threshold of an extractor.

    Parameters
    ----------
    extractor
        As ``facetools.embeddings.files.Embeddings.extractor``.
    far
        Its false accept rate, one of ``FALSE_ACCEPT_RATES``.

    Raises
    ------
    UsageError
        None was measured.
    """
    known = MEASURED.get(extractor["sha256"])
    if known is None:
        raise UsageError(
            f"no threshold was measured for the extractor {extractor['name']}; give {param('threshold')}, or "
            f"{param('calibrate')} with photos of people in folders"
        )
    if far not in known.limits:
        rates = " and ".join(f"{rate:g}" for rate in known.limits)
        raise UsageError(
            f"{param('far')} {far:g}: was not measured for {extractor['name']}, {rates} were; give one of them, or "
            f"{param('calibrate')} with photos of people in folders"
        )
    return Threshold(known.limits[far], far, known.source)


def calibrated_threshold(faces: Faces, people: Sequence[str], far: float) -> Threshold:
    """Measure a threshold on faces of known people.

    Parameters
    ----------
    faces
        One face a photo, of people that are not to be matched.
    people
        The person of each.
    far
        Share of pairs of different people that may be within the threshold, above 0, 0.5 at most.

    Raises
    ------
    ToolError
        There are too few pairs of different people for this rate: fewer than 10 would be within it.
    """
    whose = np.unique(np.array(people), return_inverse=True)[1]
    points, many = faces.points(), len(people)
    pairs = (many**2 - int((np.bincount(whose) ** 2).sum())) // 2
    if pairs * far < LEAST_ACCEPTED:
        raise ToolError(
            f"{faces.name}: {pairs:,} pairs of different people are too few for a false accept rate of {far:g}, which "
            f"needs {math.ceil(LEAST_ACCEPTED / far):,}; add people, or give a higher {param('far')}",
            kind="too-few",
        )

    def impostors() -> Iterator[npt.NDArray[np.float64]]:
        for i in range(0, many, BLOCK):
            for j in range(i, many, BLOCK):
                apart = block_distances(points[i : i + BLOCK], points[j : j + BLOCK], faces.distance)
                differ = whose[i : i + BLOCK, None] != whose[j : j + BLOCK]
                yield apart[np.triu(differ) if i == j else differ]

    (limit,) = accept_limits(impostors(), pairs, (far,))
    return Threshold(float(limit), far, f"{faces.name}: {len(np.unique(whose)):,} people, {pairs:,} pairs")


def accept_limits(
    impostors: Iterable[npt.NDArray[np.float64]], most: int, rates: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the largest accepted distance at each false accept rate (FAR), NaN where it accepts no pair.

    Parameters
    ----------
    impostors
        Distances of pairs of different people, float64 [n], part by part; only as many are kept as the largest rate
        accepts, so memory does not grow with the pairs.
    most
        Their number, or more.
    rates
        The rates, largest first.
    """
    keep = math.ceil(rates[0] * most) + 1
    nearest, pairs = np.empty(0), 0
    for part in impostors:
        pairs += len(part)
        nearest = np.sort(np.concatenate([nearest, part]))[:keep]
    passing = [math.floor(rate * pairs) for rate in rates]
    return np.array([np.nextafter(nearest[few], -np.inf) if few else np.nan for few in passing])
