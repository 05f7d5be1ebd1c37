"""Distillation of an extractor, on real faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError, UsageError
from conftest import Run
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import open_file
from facetools.training.distillation import DistillationConfig, DistillationTrainer
from facetools.training.samples import Sample
from small_networks import small_network

CPU = torch.device("cpu")


def trainer_of(samples: list[Sample], teacher: Extractor, epochs: int = 2) -> DistillationTrainer:
    student = small_network(16, mobilefacenet.SETTINGS)
    config = DistillationConfig(epochs=epochs, batch=4, learning_rate=1e-3, identity_weight=0.1, seed=0)
    return DistillationTrainer(student, teacher, samples, config, device=CPU)


def test_a_training_that_diverges_ends(samples: list[Sample], teacher: Extractor) -> None:
    trainer = trainer_of(samples, teacher)
    with torch.no_grad():
        next(trainer.student.parameters()).fill_(torch.inf)
    with pytest.raises(ToolError, match="the loss became NaN or infinite; try a lower learning_rate"):
        next(trainer.epochs())


def test_a_resumed_training_ends_as_an_uninterrupted_one(
    samples: list[Sample], teacher: Extractor, tmp_path: Path
) -> None:
    whole = trainer_of(samples, teacher)
    losses = list(whole.epochs())
    first = trainer_of(samples, teacher)
    next(first.epochs())
    first.save(tmp_path / "c", {"arguments": {"seed": 0}})
    second = trainer_of(samples, teacher)
    second.load(tmp_path / "c", {"arguments": {"seed": 0}})
    assert list(second.epochs()) == losses[1:]
    for a, b in zip(whole.averaged.state_dict().values(), second.averaged.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="made with other arguments"):
        trainer_of(samples, teacher).load(tmp_path / "c", {"arguments": {"seed": 1}})


def test_the_command_writes_an_extractor_that_embeds(
    run_inside: Callable[..., Run], people_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    words = ("train-extractor", "--in", str(people_folder), "--held-out", "0.5", "--batch", "8", "--epochs", "2")
    done = run_inside("facetools", *words, "--out", str(out))
    assert done.code == 0, done.err
    epochs = [record for record in done.records if record.get("epoch")]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    assert not Path(f"{out}.checkpoint").exists()
    assert out.stat().st_size < 3_000_000
    opened = open_file(out, CPU)
    assert (opened.name, opened.dimensions, opened.distance) == ("mine", 128, "cosine")
    embedded = run_inside(
        "facetools", "embed", "--extractor", str(out), "--in", str(people_folder), "--out", str(tmp_path / "e")
    )
    assert embedded.code == 0, embedded.err
    assert {record["extractor"] for record in embedded.records} == {"mine"}
