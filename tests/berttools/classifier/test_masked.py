"""One base, many masks: each task's model says what its own folder says, whatever was ready before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from _toolio.errors import ToolError
from berttools.classifier.masked import MaskedModels
from berttools.classifier.model import open_model
from berttools.masks.apply import apply_mask
from berttools.masks.file import open_mask
from conftest import Run
from mask_forging import forged, set_config
from tiny_models import logits, make_base, make_mask, make_tuned, texts, write_lines


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("half", [False, True])
def test_each_task_says_what_its_model_says(tmp_path: Path, kind: str, half: bool) -> None:
    base = make_base(tmp_path / "base", kind)
    if half:
        tensors = {name: value.bfloat16() for name, value in load_file(base / "model.safetensors").items()}
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    paths = {task: tmp_path / f"{task}.safetensors" for task in "abc"}
    # The first masks one layer only: the others' matrices must be the base's again.
    some = ("layers.1" if kind == "modernbert" else "layer.1", "", "")
    expected = {
        task: logits(make_mask(base, path, seed=n, sparsity=0.1 * n, only=some[n]))
        for n, (task, path) in enumerate(paths.items())
    }
    models = MaskedModels(base, paths)
    assert models.tasks == ["a", "b", "c"]
    for task in "abcacbaabb":
        found = models.switch(task)
        assert torch.equal(logits(found.model), expected[task])
        assert found.labels.names == ("bad", "good")


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.usefixtures("one_thread")
def test_learned_masks_say_what_their_folders_say(
    berttools: Callable[..., Run], train: Path, tmp_path: Path, kind: str
) -> None:
    """Masks and heads that mask-tune learned: alone, and back and forth with one that masks fewer matrices."""
    base, expected = make_base(tmp_path / "base", kind), {}
    usual = ["mask-tune", "--base", base, "--train", train, "--max-steps", "6", "--batch", "8", "--score-lr", "2"]
    for task, some in (("all", ["--initial-sparsity", "0.2"]), ("few", ["--layers", "1", "--group", "AO,O"])):
        assert berttools(*usual, *some, "--out", tmp_path / task).code == 0
        assert berttools("apply-mask", base, tmp_path / task, "--out", tmp_path / f"{task}.folder").code == 0
        expected[task] = logits(open_model(tmp_path / f"{task}.folder").model)
        alone = MaskedModels(base, {task: tmp_path / task}).switch(task)
        assert torch.equal(logits(alone.model), expected[task])
    assert len(open_mask(tmp_path / "few").names) == 2
    assert not torch.equal(*expected.values())
    models = MaskedModels(base, {task: tmp_path / task for task in expected})
    for task in ("few", "all", "few", "all", "all", "few"):
        assert torch.equal(logits(models.switch(task).model), expected[task])


def test_the_base_is_in_memory_once(base: Path, tmp_path: Path) -> None:
    paths = {task: tmp_path / task for task in "ab"}
    for number, path in enumerate(paths.values()):
        make_mask(base, path, seed=number)
    models = MaskedModels(base, paths)
    one, other = (dict(models.classifier(task).model.named_parameters()) for task in "ab")
    shared = {name for name in one if one[name].data_ptr() == other[name].data_ptr()}
    assert one.keys() - shared == {"classifier.weight", "classifier.bias"}


def test_an_interrupted_switch_is_made_good(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {task: tmp_path / task for task in "ab"}
    expected = [logits(make_mask(base, path, seed=n)) for n, path in enumerate(paths.values())]
    models = MaskedModels(base, paths)
    models.switch("a")
    write, calls = MaskedModels._write, []

    def stopped(self: MaskedModels, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MaskedModels, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        models.switch("b")
    for task, logits_of_task in zip("ab", expected, strict=True):
        assert torch.equal(logits(models.switch(task).model), logits_of_task)


def test_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    make_mask(base, tmp_path / "a")
    with pytest.raises(ToolError, match="was made for another base"):
        MaskedModels(make_base(tmp_path / "other", seed=3), {"a": tmp_path / "a"})


def test_predict_routes_by_task(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    alone = {}
    for number, task in enumerate(("one", "two")):
        make_mask(base, tmp_path / f"{task}.mask.safetensors", seed=number)
        assert berttools("apply-mask", base, tmp_path / f"{task}.mask.safetensors", "--out", tmp_path / task).code == 0
        lines = write_lines(tmp_path / f"{task}.jsonl", [{**text, "task": task} for text in texts(6)])
        alone[task] = berttools("predict", "--model", tmp_path / task, "--in", lines).records
    mixed = [{**text, "task": task} for text in texts(6) for task in ("two", "one")]
    masks = ["--mask", tmp_path / "one.mask.safetensors", "--mask", tmp_path / "two.mask.safetensors"]
    lines = write_lines(tmp_path / "mixed.jsonl", [*mixed, {"text": "a film"}, {"text": "a film", "task": "three"}])
    done = berttools("predict", "--base", base, *masks, "--in", lines)
    assert done.code == 3
    assert [record["task"] for record in done.records[:12]] == 6 * ["two", "one"]
    for task, start in (("two", 0), ("one", 1)):
        assert done.records[start:12:2] == alone[task]
    assert [record["error"]["kind"] for record in done.records[12:]] == 2 * ["unknown-task"]
    assert done.records[12]["error"]["message"].endswith("line 13: has no task; give it one of one, two")
    assert done.records[13]["error"]["message"].endswith("line 14: task 'three' is none of one, two")
    # One mask needs no task, and may be called anything.
    single = write_lines(tmp_path / "single.jsonl", texts(6))
    done = berttools("predict", "--base", base, "--mask", f"two={tmp_path / 'one.mask.safetensors'}", "--in", single)
    assert [record["score"] for record in done.records] == [record["score"] for record in alone["one"]]


@pytest.mark.parametrize("tasks", ["a", "ab"])
def test_a_line_that_is_no_record_is_the_same_error_however_many_masks(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, tasks: str
) -> None:
    for task in tasks:
        make_mask(base, tmp_path / task)
    masks = [word for task in tasks for word in ("--mask", tmp_path / task)]
    done = berttools("predict", "--base", base, *masks, stdin=b'not json\n[1,2]\n{"text":"good","task":"a"}\n')
    assert done.code == 3
    errors = [record.get("error", {}) for record in done.records]
    assert [error.get("kind") for error in errors] == ["bad-record", "bad-record", None]
    assert errors[0]["message"].startswith("stdin, line 1: not a JSON record")


@pytest.mark.parametrize("tasks", ["a", "ab"])
def test_an_empty_task_is_no_task(berttools: Callable[..., Run], base: Path, tmp_path: Path, tasks: str) -> None:
    for task in tasks:
        make_mask(base, tmp_path / task)
    masks = [word for task in tasks for word in ("--mask", tmp_path / task)]
    (tmp_path / "t.csv").write_text("text,task\ngood film,\ngood film,a\n")
    rows = write_lines(tmp_path / "t.jsonl", [{"text": "good film", "task": task} for task in (None, "", "a")])
    done = berttools("predict", "--base", base, *masks, "--in", tmp_path / "t.csv", "--in", rows)
    if tasks == "a":
        assert (done.code, len({record["score"] for record in done.records})) == (0, 1)
    else:
        messages = [record["error"]["message"] for record in done.records if "error" in record]
        assert (done.code, len(messages)) == (3, 3)
        assert all("has no task; give it one of a, b" in message for message in messages)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--base", "b"],
        ["--mask", "m"],
        ["--model", "a", "--base", "b"],
        ["--base", "b", "--mask", "m", "--mask", "x/m.s"],
        ["--base", "b", "--mask", "x="],
    ],
)
def test_what_cannot_be_asked_for(berttools: Callable[..., Run], words: list[str]) -> None:
    done = berttools("predict", *words)
    assert done.code == 2
    assert ("--mask x=: give TASK=FILE" if "x=" in words else "--mask") in done.err


def test_a_head_that_the_base_had_and_the_task_kept(base: Path, tmp_path: Path) -> None:
    """What equals the base is not in the mask file, the head included."""
    from berttools.checkpoints.files import open_checkpoint
    from berttools.masks.writer import write_mask

    tuned = make_tuned(base, tmp_path / "tuned", ("bad", "good"))
    model = make_mask(tuned, tmp_path / "all")
    mask, opened = open_mask(tmp_path / "all"), open_checkpoint(tuned)
    keeps = {name: mask.keep(name, opened.flat(name)) for name in mask.names}
    write_mask(tmp_path / "a", keeps, {}, mask.config, opened, {})
    assert torch.equal(logits(MaskedModels(tuned, {"a": tmp_path / "a"}).switch("a").model), logits(model))
    shutil.copytree(base, tmp_path / "headless")
    about = json.loads((base / "config.json").read_text())
    assert "ForSequenceClassification" not in json.dumps(about)
    write_mask(tmp_path / "b", {}, {}, mask.config, open_checkpoint(base), {})
    with pytest.raises(ToolError, match=r"neither it nor .* has classifier\.bias"):
        MaskedModels(base, {"b": tmp_path / "b"})


def stored(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({}, stored("foo.bar", 3)),
        ({}, stored("bert.foo", 3)),
        ({}, stored("bert.embeddings.LayerNorm.bias", 17)),
        ({}, stored("classifier.weight", 2, 7)),
        ({}, stored("classifier.weight", 3, 16)),
        ({}, stored("classifier.weight", 32)),
        ({}, stored("classifier.weight")),
        ({}, stored("classifier.bias", 1)),
        ({}, stored("classifier", 2)),
        ({}, stored("", 2)),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}, None),
        ({"id2label": {"0": "a", "7": "b"}}, None),
        ({"id2label": None, "label2id": None, "num_labels": 5}, None),
        ({"id2label": {"0": "value"}, "label2id": None, "problem_type": "regression"}, None),
        ({"id2label": "ab"}, None),
    ],
)
def test_what_is_no_part_of_a_tasks_model_is_refused(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, config: dict[str, Any], tensors: Any
) -> None:
    """With digests that are right; alone, and behind a mask that is as it should be."""
    make_mask(base, tmp_path / "good")
    bad = forged(tmp_path / "good", tmp_path / "bad", set_config(**config), tensors)
    lines = write_lines(tmp_path / "x.jsonl", texts(1))
    for words in (
        ["predict", "--base", base, "--mask", bad, "--in", lines],
        ["predict", "--base", base, "--mask", tmp_path / "good", "--mask", bad, "--in", lines],
        ["apply-mask", base, bad, "--out", tmp_path / "out"],
    ):
        done = berttools(*words)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert f"{bad}: " in done.err
    with pytest.raises(ToolError) as refused:
        MaskedModels(base, {"bad": bad})
    assert refused.value.kind == "bad-mask"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_tasks_of_as_many_labels_as_they_like(tmp_path: Path, kind: str) -> None:
    """A head of other labels beside it, and one that is as wide as the model: neither is refused."""
    base = make_base(tmp_path / "base", kind)
    expected = {}
    for count in (2, 16, 1, 3):
        names = [f"label{number}" for number in range(count)]
        expected[str(count)] = make_mask(base, tmp_path / str(count), seed=count, labels=names)
        apply_mask(base, tmp_path / str(count), tmp_path / f"{count}.folder")
        assert_same(open_model(tmp_path / f"{count}.folder").model, expected[str(count)])
    models = MaskedModels(base, {task: tmp_path / task for task in expected})
    for task in ("3", "16", "2", "1", "2"):
        assert_same(models.switch(task).model, expected[task])


def assert_same(one: Any, other: Any) -> None:
    """Compare values: a product with one row may depend on where in memory they lie."""
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    assert all(name == name_too and torch.equal(a, b) for (name, a), (name_too, b) in pairs)
    assert torch.allclose(logits(one), logits(other), atol=1e-6)
