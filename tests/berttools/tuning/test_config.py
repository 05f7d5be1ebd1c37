"""The configuration of a fine-tuning: what cannot be, by the parameter's name, and what follows from it."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from _toolio.compute.precision import Precision
from _toolio.errors import ToolError, UsageError
from berttools.commands.finetune import finetune
from berttools.mask_tuning import MaskTuneConfig
from berttools.texts.examples import Example
from berttools.texts.metric_names import Metric
from berttools.tuning.config import FinetuneConfig, Save, Task
from tiny_models import make_tuned


@pytest.fixture
def config(base: Path, train: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(base=base, train=str(train), out=tmp_path / "out")


def test_the_command_has_its_parameters_and_defaults() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(FinetuneConfig)}
    options = {name: each.default for name, each in inspect.signature(finetune).parameters.items() if name != "device"}
    required = {"base", "train", "out"}
    assert {name: fields[name] for name in fields if name not in required} == {
        name: options[name] for name in options if name not in required
    }


def test_it_can_be_run(config: FinetuneConfig) -> None:
    assert config.check() == Path(f"{config.out}.checkpoint")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 1}, "patience needs texts to measure on: give dev"),
        ({"metric": Metric.f1}, "metric needs texts to measure on: give dev"),
        ({"only": ["(("]}, "only ((: is no regular expression"),
        ({"freeze": ["(("]}, "freeze ((: is no regular expression"),
        ({"group": "Q,Z"}, "group Q,Z: 'Z' is none of Q, K"),
        ({"layers": "9-8"}, "layers 9-8: say 8-11"),
        ({"columns": "words=x"}, "columns words=x: 'words' is none of"),
        ({"only": ["-", "-"]}, "only -: stdin can be read once"),
        ({"save": Save.delta, "out": Path("/nowhere/at/all")}, "out /nowhere/at/all: /nowhere/at is no folder"),
    ],
)
def test_what_cannot_be_names_the_parameter(config: FinetuneConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataclasses.replace(config, **changes).check()
    assert message in raised.value.message


def test_a_head_is_replaced_only_on_purpose(config: FinetuneConfig, tmp_path: Path) -> None:
    tuned = make_tuned(config.base, tmp_path / "tuned")
    regression = dataclasses.replace(config, base=tuned, task=Task.regression)
    with pytest.raises(UsageError, match="has a head of its own; give new_head to replace it"):
        regression.check()
    dataclasses.replace(regression, new_head=True).check()
    examples = [Example("l", "x", label=0.5), Example("l", "y", label=1)]
    assert dataclasses.replace(config, base=tuned).new_labels(examples) is None
    found = config.new_labels(examples)
    assert found is not None
    assert found.regression


def test_what_is_read_is_not_replaced(config: FinetuneConfig) -> None:
    inside = dataclasses.replace(config, save=Save.delta, out=config.base / "model.safetensors", force=True)
    with pytest.raises(UsageError, match=r"out .*model\.safetensors: lies in base "):
        inside.check()
    same = dataclasses.replace(config, save=Save.delta, out=Path(config.train), force=True)
    with pytest.raises(UsageError, match="train"):
        same.check()


@pytest.mark.parametrize(
    ("changes", "steps", "every"),
    [
        ({}, 9, 3),
        ({"epochs": 2}, 6, 3),
        ({"max_steps": 4}, 4, 3),
        ({"max_steps": 2}, 2, 2),
        ({"evaluate_every": 2}, 9, 2),
        ({"evaluate_every": 99}, 9, 9),
    ],
)
def test_epochs_become_steps(config: FinetuneConfig, changes: dict[str, Any], steps: int, every: int) -> None:
    training = dataclasses.replace(config, batch=10, **changes).training(21, half=True)
    assert (training.steps, training.every, training.batch, training.half) == (steps, every, 10, True)


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, (5e-5, None)),
        ({"freeze": ["embeddings"]}, (5e-5, None)),
        ({"layers": "1"}, (1e-4, 1e-3)),
        ({"group": "Q"}, (1e-4, 1e-3)),
        ({"only": ["-"]}, (1e-4, 1e-3)),
        ({"only": ["-"], "learning_rate": 3e-4}, (3e-4, 1e-3)),
        ({"only": ["-"], "learning_rate": 1e-2}, (1e-2, 1e-2)),
        ({"layers": "1", "head_learning_rate": 2e-4}, (1e-4, 2e-4)),
        ({"learning_rate": 2e-4}, (2e-4, None)),
    ],
)
def test_parts_and_a_new_head_beside_them_learn_faster(
    config: FinetuneConfig, changes: dict[str, Any], rates: tuple[float, float | None]
) -> None:
    training = dataclasses.replace(config, **changes).training(8, half=False)
    assert (training.learning_rate, training.head_learning_rate) == rates


def test_a_head_that_the_base_has_learns_as_the_rest(config: FinetuneConfig, tmp_path: Path) -> None:
    tuned = dataclasses.replace(config, base=make_tuned(config.base, tmp_path / "tuned"), layers="1")
    assert tuned.rates == (1e-4, None)
    assert dataclasses.replace(tuned, new_head=True).rates == (1e-4, 1e-3)
    masks = MaskTuneConfig(base=config.base, train=config.train, out=tmp_path / "mask", layers="1")
    assert masks.rates == (1e-3, None)


def test_lines_of_stdin_are_read_only_where_they_name_tensors(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.weight\nb\xff\n")))
    assert config.read_lines() is None
    named = dataclasses.replace(config, only=["-", "bias$"])
    selection = named.selection(named.read_lines())
    assert selection.patterns == ("bias$",)
    assert [each.name for each in selection.named or ()] == ["a.weight", "b\ufffd"]
    choice = named.choice(["a.weight"], {"a.weight": [(0, 1, 2)]})
    assert choice["only"] == ["-", "bias$"]
    assert choice["parts"] == {"a.weight": [[0, 1, 2]]}
    assert len(choice["stdin"]) == 64


def test_a_finished_run_is_found_by_its_output(config: FinetuneConfig) -> None:
    resumed = dataclasses.replace(config, resume=True)
    assert not resumed.is_done
    config.out.mkdir()
    assert not resumed.is_done
    (config.out / "config.json").touch()
    assert (resumed.is_done, config.is_done, dataclasses.replace(resumed, force=True).is_done) == (True, False, False)


def test_texts_become_choices_and_paths(config: FinetuneConfig) -> None:
    texts: dict[str, Any] = {
        "base": str(config.base), "train": Path(config.train), "dev": Path(config.train), "out": str(config.out),
        "task": "auto", "save": "delta", "metric": "matthews", "precision": "bfloat16", "only": "bias$", "freeze": "Q",
    }  # fmt: skip
    found = FinetuneConfig(**texts)
    assert found == dataclasses.replace(
        config, dev=config.train, save=Save.delta, metric=Metric.matthews, precision=Precision.bfloat16,
        only=["bias$"], freeze=["Q"],
    )  # fmt: skip
    assert found.save is Save.delta
    assert found.task is Task.auto
    assert found.metric is Metric.matthews
    assert found.check() == Path(f"{config.out}.checkpoint")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regress"}, "task regress: is none of auto, classification, regression, multilabel"),
        ({"save": "whole"}, "save whole: is none of model, delta"),
        ({"metric": "mcc"}, "metric mcc: is none of accuracy, f1, macro-f1, matthews, pearson, spearman, micro-f1"),
        ({"precision": "half"}, "precision half: is none of auto, float32, bfloat16"),
        ({"batch": 0}, "batch 0: is less than 1"),
        ({"epochs": -1}, "epochs -1: is less than 1"),
        ({"max_steps": 0}, "max_steps 0: is less than 1"),
    ],
)
def test_what_is_no_choice_is_refused_at_once(config: FinetuneConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataclasses.replace(config, **changes)
    assert raised.value.message == message


def test_too_many_classes_may_be_numbers(config: FinetuneConfig) -> None:
    examples = [Example(f"l, line {number}", "x", label=number) for number in range(1001)]
    with pytest.raises(ToolError) as raised:
        config.new_labels(examples)
    assert raised.value.message == "l: 1001 different labels; for numbers to come near to, give task regression"
