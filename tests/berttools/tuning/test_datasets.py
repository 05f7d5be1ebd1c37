"""Texts to train and to evaluate on."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.classifier.model import Classifier
from berttools.texts.examples import Example
from berttools.texts.labels import Labels
from berttools.tuning.datasets import check_metric, read_texts, tokenised
from tiny_models import texts, write_lines


def test_both_files_hold_texts_of_one_kind(train: Path, dev: Path, tmp_path: Path) -> None:
    to_train, to_evaluate = read_texts(str(train), str(dev), None)
    assert (len(to_train), len(to_evaluate)) == (40, 20)
    assert read_texts(str(train), None, None)[1] == []
    pairs = write_lines(tmp_path / "pairs.jsonl", texts(3, pairs=True))
    with pytest.raises(ToolError, match=r"dev .*pairs\.jsonl: holds pairs, and train .* single texts"):
        read_texts(str(train), str(pairs), None)
    with pytest.raises(UsageError, match="train and dev are files"):
        read_texts("-", None, None)


def test_texts_become_tokens_and_targets(classifier: Classifier) -> None:
    examples = [Example("l", "good " * 60, label=1), Example("l", "bad film", label=0)]
    found = tokenised(examples, classifier, longest=None, source="known")
    assert [len(text) for text in found.texts] == [classifier.longest, 4]
    assert (found.targets.tolist(), found.cut) == ([1.0, 0.0], 1)
    assert [len(text) for text in tokenised(examples, classifier, longest=9, source="known").texts] == [9, 4]
    with pytest.raises(ToolError, match="line 7: label 5 is none of 0, 1, which train has"):
        tokenised([Example("line 7", "x", label=5)], classifier, longest=None, source="train has")


def test_a_task_says_what_strings_are(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "x", "label": "3.5"}, {"text": "y", "label": "[1, 2]"}])

    def labels(task: str) -> list[object]:
        return [example.label for example in read_texts(str(path), None, None, task=task)[0]]

    assert labels("auto") == labels("classification") == ["3.5", "[1, 2]"]
    assert labels("regression") == [3.5, "[1, 2]"]
    assert labels("multilabel") == ["3.5", (1, 2)]


def test_a_metric_fits_the_labels() -> None:
    check_metric("f1", Labels(("a", "b")))
    check_metric("pearson", Labels())
    check_metric("micro-f1", Labels(("a", "b"), multiple=True))
    with pytest.raises(UsageError, match="the labels are lists of classes; give one of micro-f1, macro-f1, accuracy"):
        check_metric("matthews", Labels(("a", "b"), multiple=True))
    with pytest.raises(UsageError, match="metric pearson: the labels are classes; give one of accuracy, f1"):
        check_metric("pearson", Labels(("a", "b")))
    with pytest.raises(UsageError, match="metric f1: the labels are numbers; give one of pearson, spearman"):
        check_metric("f1", Labels())
