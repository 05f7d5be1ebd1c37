"""Distillation of an extractor, on real faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import Item
from conftest import Run
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.extractors.files import Prepared, open_file
from facetools.faces.finder import Finder
from facetools.intake import Intake
from facetools.photos.codec import decode_photo
from facetools.training.distillation import DistillationConfig, DistillationTrainer
from facetools.training.samples import Sample, cut_chip, cut_chips, make_sample, split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.fixture(scope="module")
def samples(real_people: dict[str, list[bytes]], teacher: Extractor) -> list[Sample]:
    finder, found = Finder(CPU), []
    for name, photos in list(real_people.items())[:4]:
        for number, data in enumerate(photos[:2]):
            photo = decode_photo(data, name)
            faces = tuple(finder.find([photo.pixels])[0][:1])
            intake = Intake(Item(f"{name}/{number}.jpg", f"{name}/{number}.jpg"), data, photo, faces, (0,))
            found.append(make_sample(intake, mobilefacenet.SETTINGS, teacher.settings))
    return [sample for sample in found if sample is not None]


def trainer_of(samples: list[Sample], teacher: Extractor, epochs: int = 2) -> DistillationTrainer:
    torch.manual_seed(0)
    student = Prepared(mobilefacenet.MobileFaceNet(16), mobilefacenet.SETTINGS)
    config = DistillationConfig(epochs=epochs, batch=4, learning_rate=1e-3, identity_weight=0.1, seed=0)
    return DistillationTrainer(student, teacher, samples, config, device=CPU)


def test_a_mirrored_face_is_cut_as_the_mirror_image(samples: list[Sample]) -> None:
    """Of many draws about half are mirrored; each is near the plain chip or near its mirror image."""
    sizes = ((112, 112), (150, 150))
    plain = cut_chip(samples[0], 0, sizes[0])
    sides = []
    for seed in range(24):
        chip, other = cut_chips(samples[0], sizes, np.random.default_rng(seed))
        assert chip.shape == (1, 3, 112, 112)
        assert other.shape == (1, 3, 150, 150)
        assert 0 <= float(chip.min()) <= float(chip.max()) <= 1
        same, mirror = ((chip - each).abs().mean() for each in (plain, plain.flip(3)))
        sides.append(bool(mirror < same))
    assert 4 < sum(sides) < 20


def test_people_are_in_one_part_only(samples: list[Sample]) -> None:
    known, unseen = split(samples, seed=3, share=0.5)
    assert not {s.person for s in known} & {s.person for s in unseen}
    assert len(known) + len(unseen) == len(samples)


def test_of_few_people_two_are_held_out_and_two_are_not(samples: list[Sample]) -> None:
    for share in (0.01, 0.5, 0.9):
        for part in split(samples, seed=1, share=share):
            assert len({sample.person for sample in part}) == 2
    three = [s for s in samples if s.person != samples[0].person]
    with pytest.raises(ToolError, match="3 people have a face"):
        split(three, seed=1, share=0.5)


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
    run: Callable[..., Run], people_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    words = ("train-extractor", "--in", str(people_folder), "--held-out", "0.5", "--batch", "8", "--epochs", "2")
    done = run("facetools", *words, "--out", str(out))
    assert done.code == 0, done.err
    epochs = [record for record in done.records if record.get("epoch")]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    assert not Path(f"{out}.checkpoint").exists()
    assert out.stat().st_size < 3_000_000
    opened = open_file(out, CPU)
    assert (opened.name, opened.dimensions, opened.distance) == ("mine", 128, "cosine")
    embedded = run(
        "facetools", "embed", "--extractor", str(out), "--in", str(people_folder), "--out", str(tmp_path / "e")
    )
    assert embedded.code == 0, embedded.err
    assert {record["extractor"] for record in embedded.records} == {"mine"}
