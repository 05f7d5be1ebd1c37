"""Losses against scikit-learn's and SciPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn import metrics

from berttools.classifier.losses import TEMPERATURE, distillation_loss, task_loss

RNG = np.random.default_rng(0)
LOGITS, OTHERS = (RNG.normal(size=(7, 3)).astype(np.float32) * 2 for _ in range(2))


def test_cross_entropy_is_the_log_loss() -> None:
    targets = np.array([0, 1, 2, 2, 1, 0, 0])
    expected = metrics.log_loss(targets, special.softmax(LOGITS.astype(np.float64), 1), labels=[0, 1, 2])
    found = task_loss(torch.from_numpy(LOGITS), torch.from_numpy(targets.astype(np.float64)), 3)
    assert float(found) == pytest.approx(7 * expected, rel=1e-6)


def test_a_regression_has_the_squared_error() -> None:
    targets = RNG.normal(size=7)
    expected = metrics.mean_squared_error(targets, LOGITS[:, 0])
    found = task_loss(torch.from_numpy(LOGITS[:, :1]), torch.from_numpy(targets), 0)
    assert float(found) == pytest.approx(7 * expected, rel=1e-6)
    taught = distillation_loss(torch.from_numpy(LOGITS[:, :1]), torch.from_numpy(OTHERS[:, :1]), 0)
    assert float(taught) == pytest.approx(float(((LOGITS[:, 0] - OTHERS[:, 0]) ** 2).sum()), rel=1e-6)


def test_multi_label_data_has_the_binary_cross_entropy_of_transformers(base: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, problem_type="multi_label_classification"
    ).eval()
    ids = torch.tensor([[2, 5, 9, 3], [2, 6, 13, 3]])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    with torch.no_grad():
        found = model(input_ids=ids, labels=targets)
    assert float(task_loss(found.logits, targets.double(), 3)) == pytest.approx(2 * float(found.loss), rel=1e-6)


def test_distillation_of_multi_label_data_is_that_of_each_class() -> None:
    student, teacher = (special.expit(each.astype(np.float64) / TEMPERATURE) for each in (LOGITS, OTHERS))
    both = [np.stack([each, 1 - each]) for each in (teacher, student)]
    expected = TEMPERATURE**2 * stats.entropy(*both, axis=0).mean(1).sum()
    found = distillation_loss(torch.from_numpy(LOGITS), torch.from_numpy(OTHERS), 3, multiple=True)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    student, teacher = (special.softmax(each.astype(np.float64) / TEMPERATURE, 1) for each in (LOGITS, OTHERS))
    expected = TEMPERATURE**2 * stats.entropy(teacher, student, axis=1).sum()
    found = distillation_loss(torch.from_numpy(LOGITS), torch.from_numpy(OTHERS), 3)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(torch.from_numpy(OTHERS), torch.from_numpy(OTHERS), 3)) == pytest.approx(0, abs=1e-6)
