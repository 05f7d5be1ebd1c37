"""Configuration of scores of matrices."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.layer_scores import Criterion, ScoreConfig
from berttools.tuning import Task


def test_choices_and_paths_are_converted(base: Path, train: Path) -> None:
    config = ScoreConfig(base=str(base), train=train, by="grad", task="regression")  # type: ignore[arg-type]
    assert (config.base, config.train, config.by, config.task) == (base, str(train), Criterion.grad, Task.regression)
    config.check()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"by": "hessian"}, "by hessian: is none of fisher, grad, cosine, lift"),
        ({"texts": 0}, "texts 0: "),
        ({"batch": 0}, "batch 0: "),
        ({"max_length": 0}, "max_length 0: "),
    ],
)
def test_an_impossible_configuration_is_refused_when_it_is_made(
    base: Path, more: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ScoreConfig(base=base, train="a.jsonl", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"by": "fisher"}, "by fisher is measured on texts: give train"),
        ({"by": "cosine", "train": "a.jsonl", "fit_head": 3}, "fit_head goes with by fisher or grad"),
        ({"by": "lift", "train": "a.jsonl"}, "by lift is of the weights alone, and reads no train"),
        ({"by": "lift", "columns": "spam=text"}, "columns"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(base: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ScoreConfig(base=base, **more).check()  # type: ignore[arg-type]


def test_a_base_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="nowhere"):
        ScoreConfig(base=tmp_path / "nowhere", by=Criterion.lift).check()
