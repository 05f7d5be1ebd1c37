"""People from faces, against average linkage written out over all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from _toolio.errors import ToolError
from embedding_files import brute, faces_of
from facetools.embeddings import clustering
from facetools.embeddings.clustering import cluster_faces
from facetools.embeddings.matching import Faces


def average_linkage(faces: Faces, threshold: float) -> set[frozenset[int]]:
    """Join the two groups with the least mean, of all pairs of all groups, until none is within the threshold."""
    apart = brute(faces, faces) ** (1 if faces.distance == "cosine" else 2)
    limit = threshold if faces.distance == "cosine" else threshold**2
    groups = [[number] for number in range(len(faces.faces))]
    while True:
        mean, a, b = min((apart[np.ix_(a, b)].mean(), a, b) for a, b in combinations(groups, 2))
        if mean > limit:
            return {frozenset(group) for group in groups}
        groups = [group for group in groups if group not in (a, b)] + [a + b]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_groups_are_those_of_average_linkage(distance: str) -> None:
    faces = faces_of(np.random.default_rng(1).normal(size=(40, 4)), distance)
    for share in (0.02, 0.15, 0.4):
        threshold = float(np.quantile(brute(faces, faces), share))
        people, apart = cluster_faces(faces, threshold)
        groups = [np.flatnonzero(people == person) for person in range(people.max() + 1)]
        assert {frozenset(group.tolist()) for group in groups} == average_linkage(faces, threshold)
        sizes = [len(group) for group in groups]
        assert sizes == sorted(sizes, reverse=True)
        every = brute(faces, faces) ** (1 if distance == "cosine" else 2)
        for group in groups:
            for face in group:
                others = [other for other in group if other != face]
                mean = every[face, others].mean() if others else np.nan
                expected = mean if distance == "cosine" else np.sqrt(mean)
                assert np.isclose(apart[face], expected, equal_nan=True, atol=1e-9)


def test_one_pair_does_not_join_two_people() -> None:
    """Single linkage would: the last of one person and the first of the other are as near as neighbours."""
    row = np.array([[0.0], [0.5], [1.0], [2.0], [2.5], [3.0]])
    people, _ = cluster_faces(faces_of(row), 1.0)
    assert people.tolist() == [0, 0, 0, 1, 1, 1]


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "MOST_LINKS", 5)
    with pytest.raises(ToolError, match="6 pairs within 1 are more than 5"):
        cluster_faces(faces_of(np.zeros((4, 2))), 1.0)
