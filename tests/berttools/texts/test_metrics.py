"""Metrics against scikit-learn's and SciPy's, and the bootstrap's interval against what is known of it."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as judge

from berttools.texts.metrics import _correlation, bootstrap, measure, metrics_for


@settings(deadline=None)
@given(st.integers(2, 5), st.data())
def test_classes_as_scikit_learn_counts_them(classes: int, data: st.DataObject) -> None:
    label = st.integers(0, classes - 1)
    pairs = data.draw(st.lists(st.tuples(label, label), min_size=1, max_size=40))
    truth, said = map(list, zip(*pairs, strict=True))
    found = measure(truth, said, classes)
    names = list(range(classes))
    macro = judge.f1_score(truth, said, labels=names, average="macro", zero_division=0)
    one = judge.f1_score(truth, said, labels=[1], average="macro", zero_division=0)
    assert found["accuracy"] == pytest.approx(judge.accuracy_score(truth, said))
    assert found["macro-f1"] == pytest.approx(macro)
    assert found["f1"] == pytest.approx(one if classes == 2 else macro)
    assert found["matthews"] == pytest.approx(judge.matthews_corrcoef(truth, said))


NUMBER = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=40))
def test_numbers_as_scipy_correlates_them(pairs: list[tuple[float, float]]) -> None:
    truth, said = map(list, zip(*pairs, strict=True))
    found = measure(truth, said, 0)
    if min(len(set(truth)), len(set(said))) == 1:
        assert found == {"pearson": None, "spearman": None}
        return
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, said).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, said).statistic, abs=1e-6)


def test_numbers_of_any_size_correlate() -> None:
    values = np.arange(5.0)
    for scale in (1e-200, 1e200):
        assert measure(values * scale, values, 0)["pearson"] == pytest.approx(1)


def test_the_interval_is_that_of_a_binomial() -> None:
    said = np.arange(1000) < 800
    low, high = bootstrap(np.ones(1000), said, 2, "accuracy", draws=4000) or (0, 0)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == (pytest.approx(0.8 - half, abs=0.003), pytest.approx(0.8 + half, abs=0.003))


def test_the_interval_follows_from_the_seed_and_may_not_exist() -> None:
    truth = np.arange(101) % 2
    said = np.arange(101) % 3 % 2
    assert bootstrap(truth, said, 2, "f1", seed=1) == bootstrap(truth, said, 2, "f1", seed=1)
    assert bootstrap(truth, said, 2, "f1", seed=1) != bootstrap(truth, said, 2, "f1", seed=2)
    assert bootstrap([1], [1], 2, "accuracy") is None
    assert bootstrap([1, 2, 3], [4, 4, 4], 0, "pearson") is None


@pytest.mark.parametrize(
    ("classes", "metric"),
    [(2, "accuracy"), (2, "f1"), (3, "f1"), (3, "macro-f1"), (3, "matthews"), (0, "pearson"), (0, "spearman")],
)
def test_the_interval_is_that_of_examples_drawn_one_by_one(classes: int, metric: str) -> None:
    rng = np.random.default_rng(5)
    if classes:
        truth = rng.integers(classes, size=120)
        said = np.where(rng.random(120) < 0.7, truth, rng.integers(classes, size=120))
    else:
        truth = rng.integers(30, size=120) / 7  # with ties
        said = truth + rng.normal(size=120)
    draws = 3000
    plain = []
    for _ in range(draws):
        drawn = rng.integers(120, size=120)
        plain.append(measure(truth[drawn], said[drawn], classes)[metric])
    found = bootstrap(truth, said, classes, metric, draws=draws, seed=1) or (0.0, 0.0)
    expected = np.percentile(np.array(plain, float), (2.5, 97.5))
    # The spread of a percentile of so many draws is some 5% of the interval's width.
    np.testing.assert_allclose(found, expected, atol=0.12 * (expected[1] - expected[0]))


def test_values_that_count_several_times_are_as_if_written_so_often() -> None:
    truth, said = np.array([1.0, 4.0, 2.0, 4.0, 9.0]), np.array([0.5, 3.0, 3.0, 2.0, -1.0])
    times = np.array([2.0, 0.0, 3.0, 1.0, 1.0])
    rows = np.repeat(np.arange(5), times.astype(int))
    for name, judged in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        found = _correlation(name, truth, said)(times)
        assert found == pytest.approx(judged(truth[rows], said[rows]).statistic, abs=1e-12)


def test_the_interval_of_a_case_by_hand() -> None:
    # Of two examples one is right: drawn with replacement, none, one or both are, 1, 2 and 1 times of 4.
    assert bootstrap([0, 1], [0, 0], 2, "accuracy", draws=4000) == (0, 1)
    # Whatever is drawn, it is right.
    assert bootstrap([0, 1, 2, 0], [0, 1, 2, 0], 3, "accuracy") == (1, 1)


def test_many_classes_cost_no_matrix_of_them_all() -> None:
    truth = np.arange(5000) % 1000
    said = np.where(np.arange(5000) < 4000, truth, (truth + 1) % 1000)
    tracemalloc.start()
    low, high = bootstrap(truth, said, 1000, "accuracy", draws=300) or (0, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert low < 0.8 < high
    assert peak < 2e8  # 300 matrices of all classes would be 2.4 GB


def test_multi_label_data_as_scikit_learn_counts_it() -> None:
    rng = np.random.default_rng(3)
    gold, said = ((rng.random((40, 3)) < 0.4).astype(int) for _ in range(2))
    said[:, 2] = gold[:, 2] = 0  # a class that no text has, and none is said to have
    found = measure(gold, said, 3)
    usual = {"zero_division": 0.0}
    assert list(found) == list(metrics_for(3, multiple=True)) == ["micro-f1", "macro-f1", "accuracy"]
    assert found["micro-f1"] == pytest.approx(judge.f1_score(gold, said, average="micro", **usual))
    assert found["macro-f1"] == pytest.approx(judge.f1_score(gold, said, average="macro", **usual))
    assert found["accuracy"] == pytest.approx(judge.accuracy_score(gold, said))
    assert set(measure(gold * 0, said * 0, 3).values()) == {0.0, 1.0}
    # Texts are drawn again, as often as there are.
    again = np.random.default_rng(7).multinomial(40, np.full(40, 1 / 40), size=200)
    drawn = ((np.repeat(gold, times, 0), np.repeat(said, times, 0)) for times in again)
    scores = [judge.f1_score(*each, average="micro", **usual) for each in drawn]
    interval = bootstrap(gold, said, 3, "micro-f1", draws=200, seed=7)
    assert interval == pytest.approx(tuple(np.percentile(scores, (2.5, 97.5))))
