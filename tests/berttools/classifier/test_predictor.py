"""Predictions of one model: probabilities, labels, errors in their places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from _toolio.errors import InputError
from berttools.classifier.inference import Inference
from berttools.classifier.model import open_model
from berttools.classifier.predictor import Prediction, Predictor
from berttools.texts.batches import encode
from berttools.texts.examples import Example
from berttools.texts.rows import Columns, Row
from tiny_models import make_tuned

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [
    Row("line 1", {"text": "good film"}),
    Row("line 2", {"text": " "}),
    Row("line 3", {}, InputError("line 3: broken", kind="bad-record")),
    Row("line 4", {"text": "bad " * 60}),
]


def test_each_row_has_a_prediction_or_an_error(base: Path, tmp_path: Path) -> None:
    model = open_model(make_tuned(base, tmp_path / "tuned", ("bad", "good"), change=0.3))
    found = Predictor(model, CPU, half=False, batch=2).predict(ROWS, Columns({}))
    errors = [each.kind if isinstance(each, InputError) else None for each in found]
    assert errors == [None, "empty-text", "bad-record", None]
    texts = encode(model.tokenizer, [Example("l", "good film"), Example("l", "bad " * 60)], most=model.longest)
    chances = special.softmax(Inference(model, CPU).logits(texts).astype(np.float64), 1)
    for each, expected, cut in zip((found[0], found[3]), chances, (0, 62 - model.longest), strict=True):
        assert isinstance(each, Prediction)
        assert list(each.scores.values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert each.label == ("bad", "good")[int(expected.argmax())]
        assert (each.score, each.cut) == (max(each.scores.values()), cut)
    shorter = Predictor(model, CPU, half=False, batch=2, longest=10).predict(ROWS[3:], Columns({}))[0]
    assert isinstance(shorter, Prediction)
    assert shorter.cut == 52


def test_every_class_that_reaches_its_threshold_is_predicted(base: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = make_tuned(base, tmp_path / "several", ("a", "b", "c"), change=0.3)
    config = json.loads((folder / "config.json").read_text()) | {"problem_type": "multi_label_classification"}
    (folder / "config.json").write_text(json.dumps(config))
    [expected] = pipeline("text-classification", model=str(folder), top_k=None)(["good film"])
    chances = {each["label"]: each["score"] for each in expected}
    limits = [chances["a"] - 0.01, chances["b"] + 0.01, 0.0]
    for thresholds, labels in (
        (None, [name for name in "abc" if chances[name] >= 0.5]),
        (limits, ["a", "c"]),
        ([1, 1, 1], []),
    ):
        (folder / "config.json").write_text(json.dumps({**config, "label_thresholds": thresholds}))
        (found,) = Predictor(open_model(folder), CPU, half=False, batch=1).predict(ROWS[:1], Columns({}))
        assert isinstance(found, Prediction)
        assert found.scores == pytest.approx(chances, abs=2e-6)
        assert (found.label, found.score) == (labels, max(found.scores.values()))


def test_a_regression_keeps_its_digits_and_infinity_is_an_error(base: Path, tmp_path: Path) -> None:
    model = open_model(make_tuned(base, tmp_path / "numbers", (), change=0.3))
    (found,) = Predictor(model, CPU, half=False, batch=1).predict(ROWS[:1], Columns({}))
    assert isinstance(found, Prediction)
    assert isinstance(found.label, float)
    assert found.score == round(found.label, 6) != found.label
    assert found.scores == {}
    with torch.no_grad():
        model.model.classifier.bias.fill_(torch.inf)
    (failed,) = Predictor(model, CPU, half=False, batch=1).predict(ROWS[:1], Columns({}))
    assert isinstance(failed, InputError)
    assert (failed.kind, failed.message.startswith("line 1: ")) == ("not-finite", True)
