"""Training an extractor that sees through cloaks, on real faces."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.compute.distributed import Processes, count_processes
from _toolio.errors import UsageError
from conftest import Run
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import open_file
from facetools.training.paired_faces import PairedFaces
from facetools.training.robust import Objective, RobustTrainer, confuse, embed_samples, tunable, vary
from facetools.training.samples import cut_chip
from robust_trainers import CONFIG, CPU, trainer_of


def test_a_cloak_is_drawn_weaker_or_stronger(faces: PairedFaces) -> None:
    clean, cloaked = faces.samples[0], faces.samples[12]
    assert vary(clean, clean, np.random.default_rng(0)) is clean
    middle = (clean.pixels > 60) & (clean.pixels < 195)  # where nothing is clipped
    sizes = [
        np.abs(vary(cloaked, clean, np.random.default_rng(n)).pixels[middle].astype(int) - clean.pixels[middle]).mean()
        for n in range(40)
    ]
    assert 20 <= min(sizes) < 30 < 45 < max(sizes) <= 50
    elsewhere = replace(cloaked, matrices=tuple(m + 5 for m in cloaked.matrices))
    assert vary(elsewhere, clean, np.random.default_rng(0)) is elsewhere


def test_the_objective_is_what_its_docstring_says(faces: PairedFaces, extractor: Extractor) -> None:
    trainer = trainer_of(faces, extractor)
    objective = trainer._objective
    assert isinstance(objective, Objective)
    chips = torch.rand(3, 3, 112, 112, generator=torch.manual_seed(0))
    labels, wanted = torch.tensor([0, 1, 2]), torch.randn(3, 16)
    identity, apart = objective(chips, labels, wanted)
    given = trainer.student(chips)
    clean = embed_samples(extractor.network, faces.samples[:12], (112, 112), CPU)
    pairs = torch.cdist(clean.double(), clean.double()).square()
    spread = float(pairs.mean())  # with the pairs of a face and itself: twice the variance
    assert float(apart) == pytest.approx(8 * float((given - wanted).square().sum()) / spread, rel=1e-4)
    assert float(identity) == pytest.approx(float(objective.head(given, labels).sum()), rel=1e-4)


def test_training_learns_and_leaves_the_original_alone(faces: PairedFaces, extractor: Extractor) -> None:
    before = {key: value.clone() for key, value in extractor.network.state_dict().items()}
    losses = [sum(each) for each in trainer_of(faces, extractor, epochs=6).epochs()]
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[key], value) for key, value in extractor.network.state_dict().items())


def test_what_is_frozen_stays(faces: PairedFaces, extractor: Extractor) -> None:
    student = tunable(extractor, ["^stem"])
    trainer = RobustTrainer(extractor, student, faces, CONFIG, device=CPU)
    next(trainer.epochs())
    old, new = extractor.network.state_dict(), student.state_dict()
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed and not any(key.startswith("network.stem") for key in changed)
    assert not any("running" in key for key in changed)
    with pytest.raises(UsageError, match=r"freeze nothing.like.it: matches no tensor of small"):
        tunable(extractor, ["nothing.like.it"])
    with pytest.raises(UsageError, match="nothing of small is left"):
        tunable(extractor, ["."])


@pytest.mark.parametrize("head", ["softmax", "arcface"])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    faces: PairedFaces, extractor: Extractor, tmp_path: Path, head: str
) -> None:
    whole = trainer_of(faces, extractor, head=head)
    losses = list(whole.epochs())
    first = trainer_of(faces, extractor, head=head)
    next(first.epochs())
    first.keep({"protection": 0.5, "epoch": 1})
    first.save(tmp_path / "c", {"arguments": {"seed": 0}})
    second = trainer_of(faces, extractor, head=head)
    second.load(tmp_path / "c", {"arguments": {"seed": 0}})
    assert second.figures == {"protection": 0.5, "epoch": 1}
    assert list(second.epochs()) == losses[1:]
    for a, b in zip(whole.averaged.state_dict().values(), second.averaged.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="made with other arguments"):
        trainer_of(faces, extractor).load(tmp_path / "c", {"arguments": {"seed": 1}})


def test_confused_faces_move_and_keep_within_reach(faces: PairedFaces, extractor: Extractor) -> None:
    chips = torch.cat([cut_chip(sample, 0, (112, 112)) for sample in faces.samples[:3]])
    wanted = extractor.network(chips).detach()
    cloaked = confuse(extractor.network, chips, wanted, 4, [1, 2, 3])
    assert float((cloaked - chips).abs().amax()) <= 16.5 / 255
    assert ((cloaked - chips).abs().amax((1, 2, 3)) > 2 / 255).all()
    assert torch.allclose(cloaked * 255, (cloaked * 255).round(), atol=1e-3)
    shuffled = chips + (cloaked - chips).flip(2)
    moved, by_chance = ((extractor.network(each) - wanted).square().sum(1).mean() for each in (cloaked, shuffled))
    assert float(moved) > 1.5 * float(by_chance)
    alone = confuse(extractor.network, chips[1:2], wanted[1:2], 4, [2])
    assert torch.allclose(alone, cloaked[1:2], atol=1.5 / 255)


def test_with_adversarial_faces_a_resumed_training_ends_the_same(
    faces: PairedFaces, extractor: Extractor, tmp_path: Path
) -> None:
    losses = list(trainer_of(faces, extractor, adversarial=2).epochs())
    first = trainer_of(faces, extractor, adversarial=2)
    next(first.epochs())
    first.save(tmp_path / "c", {})
    second = trainer_of(faces, extractor, adversarial=2)
    second.load(tmp_path / "c", {})
    assert list(second.epochs()) == losses[1:]
    assert losses != list(trainer_of(faces, extractor).epochs())


def test_bfloat16_gives_nearly_the_same_loss(faces: PairedFaces, extractor: Extractor) -> None:
    full = trainer_of(faces, extractor)
    half = RobustTrainer(extractor, tunable(extractor), faces, CONFIG, device=CPU, half=True)
    given = next(full.epochs()), next(half.epochs())
    assert sum(given[0]) == pytest.approx(sum(given[1]), rel=0.1)
    assert given[0] != given[1]


def test_processes_share_a_step_among_them() -> None:
    parts = [Processes(rank, 3).share(list(range(10))) for rank in range(3)]
    assert sorted(number for part in parts for number in part) == list(range(10))
    assert count_processes({"RANK": "1", "WORLD_SIZE": "2"}.get) == Processes(1, 2)
    assert count_processes({}.get) == Processes(0, 1)
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}):
        with pytest.raises(UsageError, match="do not go together"):
            count_processes(wrong.get)


@pytest.fixture
def folders(people_folder: Path, tmp_path: Path) -> tuple[str, ...]:
    """Seven people, and copies of theirs as cloaks."""
    for person in sorted(people_folder.iterdir())[7:]:
        shutil.rmtree(person)
    shutil.copytree(people_folder, tmp_path / "cloaked")
    return ("--clean", str(people_folder), "--cloaked", str(tmp_path / "cloaked"))


def test_the_command_writes_an_extractor_that_evaluate_refuses_to_ask_about_its_own_people(
    run_inside: Callable[..., Run], folders: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "robust.safetensors"
    people = sorted(path.name for path in Path(folders[1]).iterdir())
    (tmp_path / "names.txt").write_text("\n".join(people[:2]))
    words = ("--hold-out", str(tmp_path / "names.txt"), "--hold-out", people[2].upper(), "--held-out", "0.4")
    done = run_inside(
        "facetools", "train-robust", *folders, *words, "--epochs", "1", "--max-clean-loss", "100", "--out", str(out)
    )
    assert done.code == 0, done.err
    left_out = {record["person"]: record["photos"] for record in done.records if "person" in record}
    assert left_out == dict.fromkeys(people[:3], 4)
    assert [record["epoch"] for record in done.records if "epoch" in record] == [0, 1]
    opened = open_file(out, CPU)
    assert (opened.name, opened.distance, opened.dimensions) == ("robust", "euclidean", 128)
    assert opened.people == tuple(people[3:])
    refused = run_inside(
        "facetools", "evaluate", "--gallery", folders[1], "--cloaked", folders[3], "--extractor", str(out)
    )
    assert refused.code == 1
    assert f"robust was trained on photos of {people[3]} and {len(people) - 4} more" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to see through"),
        (("--attack", "tip-im"), "needs more than photos"),
        (("--attack", "nothing"), "choose from"),
        (
            ("--attack", "lowkey:bogus"),
            "error: --attack lowkey:bogus: lowkey has no such mode; choose from low, mid, high",
        ),
        (("--cloaked", "HERE", "--freeze", "("), "is no regular expression"),
        (("--cloaked", "HERE", "--hold-out", "me/typo.txt"), "--hold-out me/typo.txt: no such file or folder"),
        (("--cloaked", "HERE/."), "given twice, or the same as --clean"),
        (("--cloaked", "HERE", "--cloaked", "HERE"), "given twice"),
        (("--cloaked", "HERE", "--identity", "0", "--consistency", "0"), "nothing is left to learn"),
        (("--cloaked", "HERE", "--freeze", "nowhere"), "matches no tensor of dlib-resnet"),
    ],
)
def test_what_does_not_go_together_is_refused(
    run_inside: Callable[..., Run], folders: tuple[str, ...], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    given = tuple(word.replace("HERE/.", f"{folders[1]}/.").replace("HERE", folders[3]) for word in words)
    done = run_inside("facetools", "train-robust", *folders[:2], *given, "--out", str(tmp_path / "o"))
    assert done.code == 2, done.err
    assert message in done.err
    assert not (tmp_path / "o").exists()


def test_cloaked_photos_without_an_original_are_told_and_the_rest_is_used(
    run_inside: Callable[..., Run], folders: tuple[str, ...], tmp_path: Path
) -> None:
    person = next(Path(folders[1]).iterdir()).name
    (Path(folders[3]) / person / "stray.jpg").write_bytes((Path(folders[3]) / person / "0.jpg").read_bytes())
    done = run_inside(
        "facetools", "train-robust", *folders, "--epochs", "1", "--held-out", "0.4", "--max-clean-loss", "100",
        "--out", str(tmp_path / "o"),
    )  # fmt: skip
    assert done.code == 3, done.err
    (wrong,) = [record for record in done.records if "error" in record]
    assert wrong["error"]["kind"] == "no-match"
    assert "stray.jpg" in wrong["error"]["message"]
    assert (tmp_path / "o").exists()
