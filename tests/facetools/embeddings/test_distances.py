"""Distances between embeddings against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from facetools.embeddings.distances import distances


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_distances_are_scikit_learns(kind: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 128)).astype(np.float32) for n in (40, 25))
    found = distances(a, b, kind)
    assert (found.dtype, found.shape) == (np.float64, (40, 25))
    np.testing.assert_allclose(found, pairwise_distances(a.astype(float), b.astype(float), metric=kind), atol=1e-12)


def test_equal_rows_are_at_no_distance_and_never_below_it() -> None:
    rows = (1e3 * np.random.default_rng(1).normal(size=(50, 128))).astype(np.float32)
    apart = distances(rows, rows, "euclidean")
    assert (np.diag(apart) < 1e-2).all()
    assert (apart >= 0).all()
    assert np.abs(np.diag(distances(rows, rows, "cosine"))).max() < 1e-12


def test_zeros_have_a_cosine_distance_of_one() -> None:
    assert distances(np.zeros((1, 3), np.float32), np.ones((2, 3), np.float32), "cosine").tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("length", [1e-40, 1e-20, 1.0, 1e38])
def test_a_cosine_does_not_depend_on_length(length: float) -> None:
    a, b = np.eye(3, 5), np.array([[1.0, 1, 0, 0, 0]])
    found = distances((length * a).astype(np.float32), (length * b).astype(np.float32), "cosine")
    np.testing.assert_allclose(found[:, 0], [1 - 0.5**0.5, 1 - 0.5**0.5, 1], atol=1e-4)
    assert distances(np.zeros((1, 5), np.float32), b, "cosine") == 1
