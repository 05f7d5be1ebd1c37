"""The configuration of a mask tuning."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.commands.mask_tune import mask_tune
from berttools.mask_tuning.config import MaskTuneConfig, Pooler
from berttools.mask_tuning.recipe import Distance, Method, Pattern, Recipe
from berttools.masks import Code
from berttools.tuning.config import FinetuneConfig


@pytest.fixture
def config(base: Path, train: Path, tmp_path: Path) -> MaskTuneConfig:
    return MaskTuneConfig(base=base, train=str(train), out=tmp_path / "a.mask")


def test_the_command_has_its_parameters_and_defaults() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(MaskTuneConfig)}
    options = {name: each.default for name, each in inspect.signature(mask_tune).parameters.items() if name != "device"}
    assert fields.keys() - options.keys() == {"save", "head_learning_rate"}
    assert {name: options[name] for name in options if name not in ("base", "train", "out")} == {
        name: fields[name] for name in options if name not in ("base", "train", "out")
    }
    assert MaskTuneConfig.learning_rate != FinetuneConfig.learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": Method.topk}, "method topk zeroes as many weights as it is told to; give target_sparsity"),
        ({"target_sparsity": 0.5}, "target_sparsity goes with method topk; bernoulli finds its own sparsity"),
        ({"pattern": Pattern.two_of_four, "initial_sparsity": 0.1}, "pattern 2:4: half of each matrix is zeroed"),
        ({"beside": ["("]}, "beside (: is no regular expression"),
        ({"patience": 1}, "patience needs texts to measure on: give dev"),
    ],
)
def test_what_cannot_be_names_the_parameter(config: MaskTuneConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataclasses.replace(config, **changes).check()
    assert message in raised.value.message


def test_the_teacher_is_a_model_and_is_not_replaced(config: MaskTuneConfig) -> None:
    with pytest.raises(ToolError, match="nowhere: no such folder"):
        dataclasses.replace(config, distill=Path("nowhere")).check()
    out = config.base / "model.safetensors"
    teaching = dataclasses.replace(config, distill=config.base, out=out, force=True)
    assert teaching.inputs[-1] == (config.base, "distill")
    with pytest.raises(UsageError, match="whose files it could replace"):
        teaching.check()


def test_defaults_follow_from_the_method(config: MaskTuneConfig) -> None:
    threshold = dataclasses.replace(config, method=Method.threshold)
    assert (config.score_rate, threshold.score_rate) == (0.2, 1e-3)
    assert (config.recipe(), threshold.recipe()) == (Recipe(), Recipe(Method.threshold, initial_score=0.01))
    chosen = dataclasses.replace(config, score_learning_rate=0.5, initial_score=2.0)
    assert (chosen.score_rate, chosen.recipe().initial_score) == (0.5, 2.0)
    assert config.everything
    assert not dataclasses.replace(config, group="Q").everything


def test_texts_become_choices_and_paths(config: MaskTuneConfig) -> None:
    texts: dict[str, Any] = {"pattern": "2:4", "method": "topk", "pooler": "dense", "code": "bits", "distill": "ft"}
    texts |= {"distance": "magnitude", "beside": "LayerNorm"}
    found = dataclasses.replace(config, **texts)
    assert (found.pattern, found.method, found.pooler) == (Pattern.two_of_four, Method.topk, Pooler.dense)
    assert found.pattern is Pattern.two_of_four
    assert found.recipe().method is Method.topk
    assert found.pooler is Pooler.dense
    assert found.code is Code.bits
    assert (found.recipe().distance, found.beside) == (Distance.magnitude, ["LayerNorm"])
    assert found.distill == Path("ft")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "4:2"}, "pattern 4:2: is none of free, 2:4, row, head"),
        ({"batch": 0}, "batch 0: is less than 1"),
        ({"save": "model"}, "save model: what is written is a mask file"),
    ],
)
def test_what_is_no_choice_is_refused_at_once(config: MaskTuneConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataclasses.replace(config, **changes)
    assert message in raised.value.message
