"""Metrics against scikit-learn's and SciPy's, and the bootstrap's interval against what is known of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as judge

from berttools.metrics import bootstrap, measure


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
