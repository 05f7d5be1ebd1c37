"""Fine-tuning from Python: records, files, callbacks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from _toolio.errors import UsageError
from berttools import tuning
from berttools.tuning import FinetuneConfig, Save
from berttools.tuning.run import rank_of
from conftest import Run

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
    with pytest.raises(UsageError, match="made with other arguments"):
        tuning.finetune(dataclasses.replace(config, resume=True, learning_rate=1e-3), device=CPU)


def test_what_cannot_be_is_refused_at_the_call(config: FinetuneConfig) -> None:
    with pytest.raises(UsageError, match="layers 9: the model has none such; its layers are 0 to 2"):
        tuning.finetune(dataclasses.replace(config, layers="9"), device=CPU)
    assert not config.out.exists()


def test_no_score_is_worse_than_any() -> None:
    assert rank_of({"score": None}) < rank_of({"score": -1.0}) < rank_of({"score": 0.5})


def test_how_it_was_made_is_written(config: FinetuneConfig) -> None:
    list(tuning.finetune(config, device=CPU))
    made = json.loads((config.out / "berttools.json").read_text())
    assert made["choice"] == {"layers": "1"}
    assert made["arguments"]["steps"] == 2
