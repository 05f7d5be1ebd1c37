"""Chance levels against scikit-learn's metrics of every constant prediction."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn import metrics as judge

from berttools.texts.chance import chance_levels, label_counts, standard_error
from berttools.texts.metrics import measure

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shares", [(0.4, 0.6), (0.9, 0.1), (0.2, 0.5, 0.3), (1.0, 0.0), (0.0, 0.0, 1.0)])
def test_no_constant_class_scores_more(shares: tuple[float, ...]) -> None:
    gold = RNG.choice(len(shares), 60, p=shares)
    names = list(range(len(shares)))
    every = [np.full(60, each) for each in names]
    found = chance_levels(gold, len(shares))
    macro = max(judge.f1_score(gold, said, labels=names, average="macro", zero_division=0) for said in every)
    second = max(judge.f1_score(gold, said, labels=[1], average="macro", zero_division=0) for said in every)
    assert found == {
        "accuracy": pytest.approx(max(judge.accuracy_score(gold, said) for said in every)),
        "f1": pytest.approx(second if len(names) == 2 else macro),
        "macro-f1": pytest.approx(macro),
        "matthews": max(judge.matthews_corrcoef(gold, said) for said in every),
    }
    assert list(found) == list(measure(gold, gold, len(names)))


def test_no_constant_list_of_classes_scores_more() -> None:
    gold = (RNG.random((40, 4)) < (0.7, 0.4, 0.1, 0.0)).astype(int)
    every = [np.tile(each, (40, 1)) for each in product((0, 1), repeat=4)]
    found = chance_levels(gold, 4)
    for average in ("micro", "macro"):
        scores = [judge.f1_score(gold, said, average=average, zero_division=0) for said in every]
        assert found[f"{average}-f1"] == pytest.approx(max(scores))
    assert found["accuracy"] == pytest.approx(max(judge.accuracy_score(gold, said) for said in every))
    assert chance_levels(np.zeros((5, 2)), 2) == {"micro-f1": 0, "macro-f1": 0, "accuracy": 1}


def test_values_correlate_with_no_constant() -> None:
    assert chance_levels([1.5, 2.0], 0) == {"pearson": 0, "spearman": 0}


def test_labels_are_counted_as_scikit_learn_does() -> None:
    gold, said = RNG.integers(0, 3, 50), RNG.integers(0, 3, 50)
    matrix = judge.confusion_matrix(gold, said, labels=range(4))
    rows = zip(matrix.sum(1), matrix.sum(0), matrix.diagonal(), strict=True)
    expected = [{"gold": a, "predicted": b, "right": c} for a, b, c in rows]
    assert label_counts(gold, said, 4) == expected
    lists = (np.eye(4)[each] for each in (gold, said))
    assert label_counts(*lists, 4) == expected


def test_the_error_of_a_share_and_of_a_correlation() -> None:
    assert standard_error("accuracy", 0.5, 872) == pytest.approx(0.5 / 872**0.5)
    assert standard_error("matthews", 0.0, 400) == 0.05
    # As many unrelated labels, drawn at random, spread as far.
    drawn = [judge.matthews_corrcoef(*RNG.integers(0, 2, (2, 400))) for _ in range(200)]
    assert float(np.std(drawn)) == pytest.approx(standard_error("matthews", 0.0, 400), rel=0.2)
