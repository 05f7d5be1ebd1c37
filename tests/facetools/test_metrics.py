"""Figures on scores and embeddings, against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from facetools.embeddings.distances import distances
from facetools.metrics import (
    area_interval,
    area_under_roc,
    calibration_bins,
    calibration_error,
    equal_error_rate,
    mean_interval,
    roc_points,
    share_interval,
    share_interval_over,
)


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


def test_points_of_a_curve_that_ties_do_not_part() -> None:
    labels = np.array([True, False, True, False, True])
    alarms, hits = roc_points(np.array([0.9, 0.5, 0.5, 0.2, 0.1]), labels)
    assert alarms == pytest.approx([0, 0, 1 / 2, 1, 1])
    assert hits == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1])


def test_the_interval_of_the_area_is_that_of_drawing_whole_groups_again() -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(0, 9, 40) / 8, rng.random(40) < 0.5
    groups = np.append(np.arange(8), rng.integers(0, 8, 32))
    draw, areas = np.random.default_rng(7), []
    for _ in range(300):
        drawn = np.concatenate([np.flatnonzero(groups == each) for each in draw.integers(8, size=8)])
        areas.append(area_under_roc(scores[drawn], labels[drawn]))
    found = area_interval(scores, labels, groups, draws=300, seed=7)
    assert found == pytest.approx(tuple(np.percentile([area for area in areas if area is not None], (2.5, 97.5))))


def test_more_photos_of_the_same_people_make_no_interval_narrower() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(40) < 20
    scores, groups = rng.normal(size=40) + labels, np.arange(40)
    low, high = area_interval(scores, labels, groups) or (0, 0)
    assert 0 < low < (area_under_roc(scores, labels) or 0) < high < 1
    assert area_interval(*(np.repeat(each, 5) for each in (scores, labels, groups))) == pytest.approx((low, high))


def test_no_interval_of_one_group_or_one_kind() -> None:
    scores, labels = np.array([0.1, 0.9]), np.array([False, True])
    assert area_interval(scores, labels, np.zeros(2, int)) is None
    assert area_interval(scores, np.ones(2, bool), np.arange(2)) is None
    assert area_interval(scores, labels, np.arange(2)) == (1, 1)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval(hits: int, of: int, low: float, high: float) -> None:
    # Of 81 in 263 and without correction: R. G. Newcombe, 1998, table I.
    assert share_interval(hits, of) == pytest.approx((low, high), abs=5e-5)


def test_a_share_over_people() -> None:
    groups = np.repeat(np.arange(10), 20)
    # What all faces of a person have in common is one draw: ten of ten, and not two hundred of two hundred.
    assert share_interval_over(np.ones(200, bool), groups) == share_interval(10, 10)
    assert share_interval_over(np.zeros(200, bool), groups) == share_interval(0, 10)
    low, high = share_interval_over(groups < 5, groups)
    assert (low, high) == pytest.approx((0.2, 0.8), abs=0.05), "as of ten draws"
    # Of faces that do not depend on each other it is about as wide as Wilson's.
    hits = np.random.default_rng(0).random(4000) < 0.3
    low, high = share_interval_over(hits, np.arange(4000) % 1000)
    assert (low, high) == pytest.approx(share_interval(int(hits.sum()), 4000), abs=0.004)


def test_bins_hold_like_numbers_and_never_part_equal_scores() -> None:
    scores = np.linspace(0, 1, 100)
    labels = np.arange(100) >= 60
    bins = calibration_bins(scores, labels)
    assert [each.faces for each in bins] == [10] * 10
    assert [each.cloaked for each in bins] == [0] * 6 + [1] * 4
    assert bins[0].score == pytest.approx(scores[:10].mean())
    below, above = scores[:60].mean(), 1 - scores[60:].mean()
    assert calibration_error(bins) == pytest.approx(0.6 * below + 0.4 * above)
    tied = calibration_bins(np.append(np.full(25, 0.2), np.linspace(0.3, 1, 15)), np.ones(40, bool))
    assert [each.faces for each in tied] == [25, 5, 10]
    (one,) = calibration_bins(np.zeros(3), np.array([True, False, False]))
    assert (one.score, one.cloaked, one.faces) == (0, pytest.approx(1 / 3), 3)
    assert one.interval == share_interval(1, 3)


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


@given(st.integers(0, 2**32), st.sampled_from([4, 30, 400]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_curve_and_its_area_are_scikit_learn_s(seed: int, count: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.3
    labels[:2] = False, True
    scores = rng.integers(0, 9, count) / 9 if ties else rng.normal(size=count) + labels
    alarms, hits = roc_points(scores, labels)
    expected = metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert alarms == pytest.approx(expected[0])
    assert hits == pytest.approx(expected[1])
    assert area_under_roc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_calibration_bins_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random(1000)
    labels = rng.random(1000) < scores**2
    bins = calibration_bins(scores, labels)
    shares, means = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert [each.cloaked for each in bins] == pytest.approx(list(shares), abs=0.011), "a quantile may part one more"
    assert [each.score for each in bins] == pytest.approx(list(means), abs=2e-3)
