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
from berttools.texts.batches import Dataset
from berttools.texts.chance import chance_levels
from berttools.texts.labels import Labels
from berttools.texts.thresholds import choose_thresholds
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
    assert set(found) - {"one_label"} == {"accuracy", "f1", "macro-f1", "matthews", "loss", "chance"}
    assert found["chance"] == chance_levels(data.targets, 2)
    same = {int(each) for each in predicted}
    assert {found["one_label"]} == same if len(same) == 1 else "one_label" not in found


def test_thresholds_are_chosen_on_the_texts_of_multi_label_data(base: Path) -> None:
    inference = Inference(open_base(base, Labels(("a", "b"), multiple=True)), CPU)
    data = dataset_for(open_base(base, Labels(("0", "1"))), 30)
    targets = np.stack([data.targets, np.arange(30) % 3 == 0], 1).astype(np.float64)
    found = inference.measure(Dataset(data.texts, targets))
    logits = inference.logits(data.texts)
    chances = special.expit(logits.astype(np.float64))
    assert inference.predictions(logits).tolist() == (chances.round(6) >= 0.5).tolist()
    assert found["label_thresholds"] == dict(zip("ab", choose_thresholds(chances.round(6), targets), strict=True))
    for limits, said in ((list(found["label_thresholds"].values()), found), ([0.5, 0.5], found["at_half"])):
        predicted = chances.round(6) >= limits
        for name in ("micro", "macro"):
            assert said[f"{name}-f1"] == pytest.approx(metrics.f1_score(targets, predicted, average=name))
        assert said["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted))
    expected = np.mean([metrics.log_loss(targets[:, n], chances[:, n]) for n in (0, 1)])
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["macro-f1"] > found["at_half"]["macro-f1"]


def test_a_regression_predicts_its_output(base: Path) -> None:
    inference = Inference(open_base(base, Labels()), CPU)
    assert inference.classes == 0
    assert inference.predictions(np.array([[0.5], [-2.0]], np.float32)).tolist() == [0.5, -2.0]
