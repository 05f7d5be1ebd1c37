"""Heads whose labels, configuration and weights disagree."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from _toolio.errors import ToolError
from berttools.classifier.head import check_shapes, labels_of
from berttools.classifier.inference import Inference
from berttools.classifier.model import open_base, open_model
from berttools.texts.labels import Labels
from tiny_models import SIZES, make_tuned

WIDTH = SIZES["hidden"]


@pytest.fixture(scope="module")
def three(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned(base, tmp_path_factory.mktemp("head") / "three", ("neg", "pos", "mid"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}},
            f"classifier.weight is of shape 3x{WIDTH}, and config.json has 2 labels (id2label, num_labels), for which"
            f" it is 2x{WIDTH}",
        ),
        ({"num_labels": 5}, "num_labels is 5, and id2label names 3 classes"),
        ({"num_labels": 5, "id2label": None, "label2id": None}, f"classifier.weight is of shape 3x{WIDTH}, and"),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, "num_labels is 3, and id2label names 2 classes"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label numbers its classes 0, 1, 3, and not from 0 on"),
        ({"id2label": {"0": "a", "1": "b", "2": "c", "01": "d"}}, "numbers its classes 0, 1, 2, 01"),
        ({"id2label": ["a", "b", "c"]}, "id2label is no table of numbers and names"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "classes 0 and 2 are both called 'a' (id2label)"),
        ({"label2id": {"neg": 1, "pos": 0, "mid": 2}}, "class 'neg' is 0 in id2label, and 1 in label2id"),
    ],
)
def test_a_head_that_disagrees_with_its_labels_says_how(
    three: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = changed(three, tmp_path, change)
    with pytest.raises(ToolError) as raised:
        open_model(folder)
    assert raised.value.kind == "bad-labels"
    assert f"{folder}: " in raised.value.message
    assert said in raised.value.message
    assert "\n" not in raised.value.message


def changed(source: Path, folder: Path, change: dict[str, Any]) -> Path:
    """Copy a model's folder, with another config.json; None takes a key out."""
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((source / "config.json").read_text()), **change}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def test_no_value_of_several_is_dropped(three: Path, tmp_path: Path) -> None:
    opened = open_model(changed(three, tmp_path, {"problem_type": "regression"}))
    with pytest.raises(ToolError, match=r"gives 3 numbers a text \(num_labels\), of which 1 would be used"):
        Inference(opened, torch.device("cpu"))


def test_names_that_label2id_has_not_are_of_no_weight(three: Path, tmp_path: Path) -> None:
    opened = open_model(changed(three, tmp_path, {"label2id": {"LABEL_0": 0, "LABEL_1": 1}}))
    assert opened.labels == Labels(("neg", "pos", "mid"), numbered=True)


def test_a_new_head_has_its_own_labels_whatever_the_old_one_said(three: Path, tmp_path: Path) -> None:
    opened = open_base(changed(three, tmp_path, {"num_labels": 5}), Labels(("x", "y")))
    assert (opened.model.config.num_labels, opened.model.config.id2label) == (2, {0: "x", 1: "y"})
    assert opened.model.classifier.weight.shape == (2, WIDTH)


def test_labels_are_those_of_the_configuration() -> None:
    usual = {"problem_type": None, "_name_or_path": "folder"}
    assert labels_of(SimpleNamespace(**usual, num_labels=2, id2label={0: "no", 1: "yes"})).names == ("no", "yes")
    assert labels_of(SimpleNamespace(**usual, num_labels=1, id2label={0: "value"})).regression
    assert labels_of(SimpleNamespace(**{**usual, "problem_type": "regression"}, num_labels=1)).regression


def test_thresholds_are_one_a_class() -> None:
    usual = {"problem_type": "multi_label_classification", "_name_or_path": "folder"}
    usual |= {"num_labels": 2, "id2label": {0: "no", 1: "yes"}}
    assert labels_of(SimpleNamespace(**usual)) == Labels(("no", "yes"), numbered=True, multiple=True)
    chosen = labels_of(SimpleNamespace(**usual, label_thresholds=[0.25, 1]))
    assert chosen.thresholds == (0.25, 1.0)
    alone = labels_of(SimpleNamespace(**{**usual, "num_labels": 1}))
    assert (alone.names, alone.multiple) == (("no",), True)
    for wrong in ([0.5], [0.5, 1.5], [0.5, float("nan")], "ab", {"no": 0.5, "yes": 0.5}, [0.5, None]):
        with pytest.raises(ToolError, match="label_thresholds are not 2 probabilities, one a class"):
            labels_of(SimpleNamespace(**usual, label_thresholds=wrong))


@pytest.mark.parametrize("problem", ["single_label_classification", "regression", None])
def test_thresholds_are_of_multi_label_data_alone(problem: str | None) -> None:
    from transformers import BertConfig

    config = BertConfig(num_labels=2, problem_type=problem, label_thresholds=[0.5, 0.25], name_or_path="folder")
    with pytest.raises(
        ToolError, match="folder: label_thresholds are of multi-label data, and problem_type is"
    ) as raised:
        labels_of(config)
    assert (raised.value.kind, str(problem or "not set") in raised.value.message) == ("bad-labels", True)


def test_the_matrix_of_a_head_is_named_before_its_bias() -> None:
    shapes = {"score.bias": ((3,), (2,)), "score.weight": ((3, 8), (2, 8))}
    with pytest.raises(ToolError, match=r"score\.weight is of shape 3x8, and config\.json has 2 labels"):
        check_shapes(Path("m"), 2, shapes)
    check_shapes(Path("m"), 2, {})
