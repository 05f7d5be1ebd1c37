"""Group faces into people: average linkage, cut at a distance."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, param
from _toolio.progress import Progress, no_progress
from facetools.embeddings.matching import Faces, nearest_pairs

MOST_LINKS = 3_000_000
"""Pairs within the threshold that are held in memory, about 1.5 GB."""


def cluster_faces(
    faces: Faces, threshold: float, *, progress: Progress = no_progress
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Group faces into people.

    Agglomerative clustering with average linkage (UPGMA; Sokal and Michener 1958), of squared Euclidean or of cosine
    distances: the two groups that are nearest in the mean over their pairs of faces become one, until no two are
    within the threshold. Single linkage would join two people by a single pair of photos that look alike, of which
    there are ever more the more faces there are.

    Only groups with a pair of faces within the threshold can be within it in the mean. So the pairs within it are all
    that is held, and the means follow exactly from each group's sum of embeddings.

    Parameters
    ----------
    faces
        The faces.
    threshold
        The largest distance of two groups that are one person: cosine, or Euclidean in the quadratic mean.
    progress
        Shows the progress over blocks of pairs.

    Returns
    -------
    people
        int64 [n]: each face's person, numbered from 0; who has most faces is first.
    distances
        float64 [n]: each face's mean distance to the others of its person, as above; NaN for a face alone.

    Raises
    ------
    ToolError
        There are more than `MOST_LINKS` pairs within the threshold.
    """
    links = nearest_pairs(faces, None, threshold, most=MOST_LINKS, progress=progress)
    if links.within > MOST_LINKS:
        raise ToolError(
            f"{faces.name}: {links.within:,} pairs within {threshold:g} are more than {MOST_LINKS:,}, which can be "
            f"grouped; give a lower {param('far')} or {param('threshold')}, or fewer photos",
            kind="too-many",
        )
    points = faces.points()
    cosine = faces.distance == "cosine"
    linkage = _Linkage(points, 2 * threshold if cosine else threshold**2)
    linkage.join(links.first, links.second, links.distances * 2 if cosine else links.distances**2)
    return _described(points, linkage.group_of, cosine=cosine)


class _Linkage:
    """Groups of points, joined in the order of their mean squared distance."""

    def __init__(self, points: npt.NDArray[np.float64], limit: float) -> None:
        many = len(points)
        self._sums, self._squares = points.copy(), (points**2).sum(1)
        self._sizes, self._versions = np.ones(many, np.int64), [0] * many
        self._near: dict[int, set[int]] = {}
        self._limit = limit
        self.group_of = np.arange(many)

    def join(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], squared: npt.NDArray[np.float64]
    ) -> None:
        links = zip(squared.tolist(), first.tolist(), second.tolist(), strict=True)
        heap = [(apart, a, b, 0, 0) for apart, a, b in links]
        for _, a, b, _, _ in heap:
            self._near.setdefault(a, set()).add(b)
            self._near.setdefault(b, set()).add(a)
        heapq.heapify(heap)
        members = {number: [number] for number in self._near}
        while heap:
            _, a, b, version_a, version_b = heapq.heappop(heap)
            if (self._versions[a], self._versions[b]) != (version_a, version_b):
                continue  # one of them has grown, or is part of another
            self._merge(a, b)
            members[a] += members.pop(b)
            near = np.array(sorted(self._near[a]), np.int64)
            for apart, other in zip(self._apart(a, near).tolist(), near.tolist(), strict=True):
                if apart <= self._limit:
                    low, high = min(a, other), max(a, other)
                    heapq.heappush(heap, (apart, low, high, self._versions[low], self._versions[high]))
        for group, numbers in members.items():
            self.group_of[numbers] = group

    def _merge(self, a: int, b: int) -> None:
        self._sums[a] += self._sums[b]
        self._squares[a] += self._squares[b]
        self._sizes[a] += self._sizes[b]
        self._versions[a] += 1
        self._versions[b] = -1
        theirs = self._near.pop(b)
        self._near[a] = (self._near[a] | theirs) - {a, b}
        for other in theirs - {a}:
            self._near[other].discard(b)
            self._near[other].add(a)

    def _apart(self, a: int, others: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the mean squared distances of a group's points to those of others."""
        squares = self._squares[a] / self._sizes[a] + self._squares[others] / self._sizes[others]
        products = self._sums[others] @ self._sums[a] / (self._sizes[others] * self._sizes[a])
        apart: npt.NDArray[np.float64] = squares - 2 * products
        return apart


def _described(
    points: npt.NDArray[np.float64], group_of: npt.NDArray[np.int64], *, cosine: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return each point's group, the largest first, and its mean distance to the others of it."""
    groups, first, inverse, sizes = np.unique(group_of, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    numbers = np.empty(len(groups), np.int64)
    numbers[order] = np.arange(len(groups))
    sums, squares = np.zeros((len(groups), points.shape[1])), np.zeros(len(groups))
    own = (points**2).sum(1)
    np.add.at(sums, inverse, points)
    np.add.at(squares, inverse, own)
    many = sizes[inverse]
    total = many * own + squares[inverse] - 2 * (points * sums[inverse]).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(many > 1, np.maximum(total, 0) / (many - 1), np.nan)
    return numbers[inverse], mean / 2 if cosine else np.sqrt(mean)
