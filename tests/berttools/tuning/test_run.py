"""Fine-tuning from Python: records, files, callbacks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from _toolio.errors import ToolError, UsageError
from berttools import mask_tuning, tuning
from berttools.mask_tuning import MaskTuneConfig
from berttools.tuning import FinetuneConfig, Save
from berttools.tuning.run import rank_of
from conftest import Run
from tiny_models import NOTHING_LEARNED, make_tuned, texts, with_tokens, write_lines

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(base: Path, train: Path, dev: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        base=base, train=str(train), dev=str(dev), out=tmp_path / "out", max_steps=2, evaluate_every=1, layers="1"
    )


def test_it_is_what_the_command_does(
    berttools: Callable[..., Run], config: FinetuneConfig, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    shown: list[range] = []

    def progress(steps: range) -> Iterator[int]:
        shown.append(steps)
        yield from steps

    records = list(tuning.finetune(config, device=CPU, progress=progress))
    assert capsysbinary.readouterr() == (b"", b"")
    assert shown == [range(1), range(1, 2)]
    assert [record["step"] for record in records] == [1, 2, max(records[:2], key=rank_of)["step"]]
    words = ["--base", config.base, "--train", config.train, "--dev", config.dev or "", "--layers", "1"]
    words += ["--max-steps", "2", "--evaluate-every", "1", "--device", "cpu", "--out", f"{config.out}2"]
    done = berttools("finetune", *words)
    assert done.code == 0
    for record, theirs in zip(records, done.records, strict=True):
        assert theirs.pop("schema") == "berttools.finetune/1"
        assert theirs.pop("path", None) in (None, f"{config.out}2")
        del theirs["score"]  # which is rounded
        assert {key: record[key] for key in theirs} == theirs
    for path in config.out.iterdir():
        assert path.read_bytes() == Path(f"{config.out}2", path.name).read_bytes(), path.name


def test_a_finished_run_yields_its_record_again(config: FinetuneConfig) -> None:
    config = dataclasses.replace(config, save=Save.delta, dev=None)
    *rounds, last = tuning.finetune(config, device=CPU)
    assert [record["reason"] for record in rounds] == ["no dev", "no dev"]
    assert list(tuning.finetune(dataclasses.replace(config, resume=True), device=CPU)) == [last]
    assert (last["learning_rate"], last["head_learning_rate"]) == (1e-4, 1e-3)
    with pytest.raises(UsageError, match="made with other arguments"):
        tuning.finetune(dataclasses.replace(config, resume=True, learning_rate=1e-3), device=CPU)


@pytest.mark.parametrize("kind", [FinetuneConfig, MaskTuneConfig])
def test_another_patience_is_refused_on_resume(
    config: FinetuneConfig, kind: type[FinetuneConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"base": config.base, "train": config.train, "dev": config.dev, "out": config.out, "max_steps": 3}
    run = tuning.finetune if kind is FinetuneConfig else mask_tuning.mask_tune
    made = kind(**fields, evaluate_every=1, patience=2)  # type: ignore[arg-type]
    next(records := run(made, device=CPU))  # type: ignore[arg-type]
    next(records)
    records.close()  # type: ignore[attr-defined]
    for patience in (None, 3):
        with pytest.raises(UsageError, match=rf"other choice \(patience was 2, and is {patience}\)"):
            run(dataclasses.replace(made, resume=True, patience=patience), device=CPU)  # type: ignore[arg-type]
    assert list(run(dataclasses.replace(made, resume=True), device=CPU))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"patience was 2, and is 1"):
        run(dataclasses.replace(made, resume=True, patience=1), device=CPU)  # type: ignore[arg-type]


def test_a_run_that_diverges_leaves_the_checkpoint_of_its_last_round(config: FinetuneConfig) -> None:
    config = dataclasses.replace(config, learning_rate=1e30, max_steps=9, dev=None)
    checkpoint, said = Path(f"{config.out}.checkpoint"), []
    for resume in (False, True):
        records = tuning.finetune(dataclasses.replace(config, resume=resume), device=CPU)
        with pytest.raises(ToolError, match=r"became NaN or infinite in step [2-9], on the texts .*, line ") as caught:
            for _ in records:
                pass
        said.append((caught.value.message, checkpoint.read_bytes()))
        assert caught.value.exit_code == 1
    assert said[0] == said[1]
    assert not config.out.exists()


def test_what_cannot_be_is_refused_at_the_call(config: FinetuneConfig) -> None:
    with pytest.raises(UsageError, match="layers 9: the model has none such; its layers are 0 to 2"):
        tuning.finetune(dataclasses.replace(config, layers="9"), device=CPU)
    assert not config.out.exists()


@pytest.mark.parametrize("command", [tuning.finetune, mask_tuning.mask_tune])
def test_tokens_that_the_embedding_has_no_row_for_are_refused_before_anything_is_computed(
    base: Path, train: Path, dev: Path, tmp_path: Path, command: Callable[..., Iterator[Any]]
) -> None:
    more = with_tokens(Path(shutil.copytree(base, tmp_path / "more")), "novel")
    held = write_lines(tmp_path / "train.jsonl", [*texts(6), {"text": "a good novel", "label": 1}])
    kind = FinetuneConfig if command is tuning.finetune else MaskTuneConfig
    usual: dict[str, Any] = {"base": more, "out": tmp_path / "out", "max_steps": 1}
    said = "line 7: token 'novel' has number 24, and the model's embedding has 24 rows for the 25 tokens"
    for files in ({"train": held}, {"train": train, "dev": held}):
        with pytest.raises(ToolError, match=said) as raised:
            command(kind(**usual, **files), device=CPU)
        assert "\n" not in raised.value.message
        assert not isinstance(raised.value, UsageError)
    warned: list[str] = []
    *_, last = command(kind(**usual, train=train, dev=dev), device=CPU, warn=warned.append)
    assert last["path"] == tmp_path / "out"  # no text holds it
    assert "a token of number 24 or more is in no text here" in warned[0]
    assert "24 rows for the 25 tokens" in warned[0]


def test_numbers_that_stand_for_a_heads_names_are_told(config: FinetuneConfig, base: Path, tmp_path: Path) -> None:
    warned: list[str] = []
    named = dataclasses.replace(config, base=make_tuned(base, tmp_path / "named", ("no", "yes")))
    list(tuning.finetune(named, device=CPU, warn=warned.append))
    warned = [each for each in warned if not NOTHING_LEARNED.search(each)]
    assert len(warned) == 1
    assert "named: labels of texts are numbers, and classes have names: 0 for 'no', 1 for 'yes'" in warned[0]
    list(tuning.finetune(dataclasses.replace(named, new_head=True, force=True), device=CPU, warn=warned.append))
    assert [each for each in warned[1:] if not NOTHING_LEARNED.search(each)] == []


@pytest.mark.parametrize("command", [tuning.finetune, mask_tuning.mask_tune])
def test_nothing_that_was_learned_is_told_with_what_to_try(
    base: Path, train: Path, dev: Path, tmp_path: Path, command: Callable[..., Iterator[Any]]
) -> None:
    kind = FinetuneConfig if command is tuning.finetune else MaskTuneConfig
    out = {"out": tmp_path / "out", "max_steps": 1, "group": "Q"}
    warned: list[str] = []
    first, last = command(kind(base=base, train=str(train), dev=str(dev), **out), device=CPU, warn=warned.append)
    right = [json.loads(line)["label"] for line in dev.read_text().splitlines()]
    share = max(right.count(label) for label in (0, 1)) / len(right)
    assert first["chance"] == last["chance"] == pytest.approx(share)
    assert first["first_loss"] == first["loss"]
    assert "first_loss" not in last
    of = f"{share:.4g} of the same label for every text, within its error"
    rate, more = ("learning_rate than 0.0001", "more matrices (only, group)")
    if command is mask_tuning.mask_tune:
        rate, more = ("score_learning_rate than 0.2", "more matrices")
    said = f"accuracy {first['score']:.4g} on dev is no better than the {of}: try "
    # The rate is to blame only after steps enough.
    said += f"more epochs (only 1 step), another {rate}, or {more}"
    assert warned[-1].endswith(said)
    assert warned[-1].startswith(f"every text of dev is labelled {first['one_label']}; ") == ("one_label" in first)


def test_after_many_steps_another_rate_is_tried_first(base: Path, train: Path, dev: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(base=base, train=str(train), dev=str(dev), out=tmp_path / "out", max_steps=100, group="Q",
                            learning_rate=1e-9, head_learning_rate=1e-9)  # fmt: skip
    warned: list[str] = []
    list(tuning.finetune(config, device=CPU, warn=warned.append))
    assert warned[-1].endswith(": try another learning_rate than 1e-09, more epochs, or more matrices (only, group)")


def test_what_was_learned_is_not_doubted(base: Path, tmp_path: Path) -> None:
    data = str(write_lines(tmp_path / "many.jsonl", texts(200)))
    config = FinetuneConfig(
        base=base, train=data, dev=data, out=tmp_path / "out", learning_rate=1e-2, batch=8, epochs=4
    )
    warned: list[str] = []
    *_, last = tuning.finetune(config, device=CPU, warn=warned.append)
    assert last["score"] > last["chance"] + 0.2
    assert warned == []


def test_no_score_is_worse_than_any() -> None:
    assert rank_of({"score": None}) < rank_of({"score": -1.0}) < rank_of({"score": 0.5})


def test_how_it_was_made_is_written(config: FinetuneConfig) -> None:
    list(tuning.finetune(config, device=CPU))
    made = json.loads((config.out / "berttools.json").read_text())
    assert made["choice"] == {"layers": "1"}
    assert made["arguments"]["steps"] == 2
    # Those of parts, as nothing else was said.
    assert (made["arguments"]["learning_rate"], made["arguments"]["head_learning_rate"]) == (1e-4, 1e-3)


@pytest.mark.parametrize("command", [tuning.finetune, mask_tuning.mask_tune])
def test_classes_joined_in_one_label_are_warned_of(
    base: Path, tmp_path: Path, command: Callable[..., Iterator[Any]]
) -> None:
    labels = ("bad;good", "bad", "good", "Good")
    train = write_lines(tmp_path / "t.jsonl", [{**row, "label": labels[n % 4]} for n, row in enumerate(texts(8))])
    kind = FinetuneConfig if command is tuning.finetune else MaskTuneConfig
    config = kind(base=base, train=str(train), out=tmp_path / "out", max_steps=1)
    warned: list[str] = []
    command(config, device=CPU, warn=warned.append)  # all that is read is checked at the call
    assert warned[0].startswith(f"{train}: classes 'Good' and 'good' differ by case or spaces alone")
    assert warned[1].startswith(f"{train}: labels such as 'bad;good' have ';' between words")
    warned.clear()
    command(dataclasses.replace(config, task="classification"), device=CPU, warn=warned.append)
    assert len([said for said in warned if said.startswith(str(train))]) == 1
