"""Figures on scores and embeddings, against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetools.metrics import area_under_roc, distances, equal_error_rate, mean_interval


def test_equal_error_rate_of_known_scores() -> None:
    labels = np.array([True, True, False, False])
    assert equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), labels) == 0
    assert equal_error_rate(np.array([0.9, 0.3, 0.4, 0.1]), labels) == 0.5
    assert equal_error_rate(np.array([0.1, 0.2, 0.8, 0.9]), labels) == 1
    assert equal_error_rate(np.zeros(4), labels) == 0.5
    assert equal_error_rate(np.zeros(2), np.array([True, True])) is None


def test_the_area_counts_pairs_and_halves_ties() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 6, 60) / 3, rng.random(60) < 0.4
    pairs = scores[labels][:, None] - scores[~labels]
    assert area_under_roc(scores, labels) == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
    assert area_under_roc(np.append(scores, np.nan), np.append(labels, True)) is None
    assert area_under_roc(scores, np.ones(60, bool)) is None


def test_equal_error_rate_is_where_both_errors_meet() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(4000) < 0.3
    scores = rng.normal(size=4000) + 1.5 * labels
    rate = equal_error_rate(scores, labels)
    # Two normal distributions 1.5 apart meet at 0.75: the error is Phi(-0.75).
    assert rate == pytest.approx(0.2266, abs=0.02)
    limits = np.quantile(scores[~labels], 1 - rate)
    assert (scores[labels] < limits).mean() == pytest.approx(rate, abs=0.01)
    assert area_under_roc(scores, labels) == pytest.approx(0.8556, abs=0.02)


@pytest.mark.parametrize("kind", ["euclidean", "cosine"])
def test_distances(kind: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
    found = distances(a, b, kind)
    for i in range(4):
        for j in range(5):
            cosine = a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])
            assert found[i, j] == pytest.approx(np.linalg.norm(a[i] - b[j]) if kind == "euclidean" else 1 - cosine)


def test_an_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(60):
        mean, low, high = mean_interval(rng.normal(3, 1, 40), draws=500, seed=seed)
        assert low < mean < high
        covered += low < 3 < high
    assert covered >= 50


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=0, max_size=30))
@settings(deadline=None)
def test_area_under_roc_by_brute_force(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], float)
    labels = np.array([label for _, label in pairs], bool)
    wins = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[labels], scores[~labels])]
    area = area_under_roc(scores, labels)
    assert area == (pytest.approx(np.mean(wins)) if wins else None)
