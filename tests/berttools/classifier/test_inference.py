"""Logits and their metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special
from sklearn import metrics

from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier, open_base
from berttools.texts.labels import Labels
from tiny_models import dataset_for

CPU = torch.device("cpu")


def test_logits_do_not_depend_on_the_texts_beside_them(classifier: Classifier) -> None:
    inference, data = Inference(classifier, CPU), dataset_for(classifier)
    alone = np.concatenate([inference.logits([text]) for text in data.texts])
    np.testing.assert_allclose(inference.logits(data.texts, batch=7), alone, atol=1e-6)


def test_metrics_are_those_of_the_predictions(classifier: Classifier) -> None:
    data, inference = dataset_for(classifier, 40), Inference(classifier, CPU)
    classifier.model.train()
    logits = inference.logits(data.texts)
    assert classifier.model.training, "as it was before"
    predicted = inference.predictions(logits)
    assert predicted.tolist() == logits.argmax(1).tolist()
    found = inference.measure(data)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(data.targets, predicted))
    assert found["loss"] == pytest.approx(metrics.log_loss(data.targets, special.softmax(logits, 1)), rel=1e-5)
    assert set(found) == {"accuracy", "f1", "macro-f1", "matthews", "loss"}


def test_a_regression_predicts_its_output(base: Path) -> None:
    inference = Inference(open_base(base, Labels()), CPU)
    assert inference.classes == 0
    assert inference.predictions(np.array([[0.5], [-2.0]], np.float32)).tolist() == [0.5, -2.0]
