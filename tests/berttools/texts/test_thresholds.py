"""Thresholds of multi-label data, against every other choice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from berttools.texts.thresholds import choose_thresholds, probabilities


def test_no_other_threshold_has_a_larger_f1() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 4)) < (0.5, 0.1, 0.9, 0.3)).astype(np.float64)
    chances = probabilities(rng.normal(size=(40, 4)) + targets)
    chances[:20] = chances[20:]  # ties
    for number, chosen in enumerate(choose_thresholds(chances, targets)):
        gold, column = targets[:, number], chances[:, number]
        every = [metrics.f1_score(gold, column >= limit, zero_division=0) for limit in np.unique(column)]
        assert metrics.f1_score(gold, column >= chosen) == pytest.approx(max(every))


def test_what_nothing_speaks_against_is_a_half() -> None:
    chances = np.array([[0.2, 0.9, 0.1, 0.2], [0.7, 0.3, 0.2, 0.9], [0.8, 0.6, 0.3, 0.4]])
    targets = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 1, 1]], np.float64)
    # Apart, without a target, apart below a half, and all of them targets.
    assert choose_thresholds(chances, targets) == [0.5, 0.5, 0.25, 0.1]


def test_probabilities_are_those_of_a_record() -> None:
    logits = np.array([-800.0, -3.0, 0.0, 1.5, 800.0])
    assert probabilities(logits).tolist() == np.round(special.expit(logits), 6).tolist()
