"""The detector, its file, and its training."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from _toolio.errors import ToolError
from _toolio.paths import Item
from _toolio.tensors import open_safetensors, read_metadata, write_safetensors
from facetools.detector import (
    LARGEST_PX,
    SCHEMA,
    Detector,
    ResidualNet,
    cut_face,
    open_detector,
    save_detector,
)
from facetools.detector_training import (
    WINDOW_PX,
    Example,
    augment,
    digest_of,
    fit_temperature,
    is_held_out,
    logits_of,
    make_example,
    pair_up,
    person_of,
    split_people,
    train_network,
)
from facetools.faces.finder import Face
from facetools.intake import Intake
from facetools.metrics import area_under_roc
from facetools.photos import Photo

CPU = torch.device("cpu")
MADE: dict[str, Any] = {"width": 24, "threshold": 0.5, "temperature": 1.5, "note": "x"}


def face_at(x0: float, y0: float, x1: float, y1: float) -> Face:
    return Face((x0, y0, x1, y1), 1.0, np.zeros((5, 2)))


def picture(height: int = 120, width: int = 140, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def network(seed: int = 0) -> ResidualNet:
    torch.manual_seed(seed)
    made = ResidualNet()
    # Statistics as after training, not the zeros and ones of a new network.
    made.train()(torch.rand(4, 3, 48, 48))
    return made.eval()


# ---------------------------------------------------------------- its file


def test_what_is_saved_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    original = network()
    save_detector(path, original, MADE)
    first = path.read_bytes()
    save_detector(path, original, MADE)
    assert path.read_bytes() == first
    assert {entry.dtype for entry in open_safetensors(path).entries.values()} == {"F16"}
    assert read_metadata(path) == {"schema": SCHEMA, **MADE}
    opened = open_detector(path, CPU)
    assert (opened.threshold, opened.temperature) == (0.5, 1.5)
    assert opened.name.startswith("mine-")
    assert len(opened.name) == len("mine-") + 12
    faces = torch.rand(3, 3, 50, 60)
    with torch.inference_mode():
        torch.testing.assert_close(opened.network(faces), original(faces), rtol=0.01, atol=0.01)
    state = opened.network.state_dict()
    for name, value in original.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[name], value.half().float(), rtol=0, atol=0)


def resaved(path: Path, made: dict[str, Any], **tensors: Any) -> Path:
    save_detector(path, network(), MADE)
    file = open_safetensors(path)
    kept = {name: np.array(file.tensor(name)) for name in file.entries} | tensors
    write_safetensors(path, {name: value for name, value in kept.items() if value is not None}, made)
    return path


WHOLE = {"schema": SCHEMA, **MADE}


@pytest.mark.parametrize(
    ("made", "tensors", "words"),
    [
        ({}, {}, "not a detector; make one with facetools train-detector"),
        ({"schema": "facetools.embed/1"}, {}, "not a detector"),
        ({"schema": SCHEMA}, {}, "of another version"),
        ({**WHOLE, "width": "wide"}, {}, "of another version"),
        ({**WHOLE, "width": 12}, {}, "of another version"),
        ({**WHOLE, "threshold": None}, {}, "of another version"),
        (WHOLE, {"head.bias": None}, "head.bias missing"),
        (WHOLE, {"head.weight": np.zeros((1, 3), np.float16)}, "of another version"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, made: dict[str, Any], tensors: dict[str, Any], words: str) -> None:
    path = resaved(tmp_path / "d.safetensors", made, **tensors)
    with pytest.raises(ToolError, match=words) as caught:
        open_detector(path, CPU)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert (caught.value.kind, caught.value.exit_code) == ("not-a-detector", 1)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Dear diary")
    for name in ("text", "gone"):
        with pytest.raises(ToolError, match=str(tmp_path / name)) as caught:
            open_detector(tmp_path / name, CPU)
        assert caught.value.exit_code == 1


# ---------------------------------------------------------------- scores


def test_scores_lie_between_clean_and_cloaked_and_stand_alone() -> None:
    judge = Detector("x", network(), 0.5, 0.1)
    pixels = picture()
    faces = [face_at(10, 10, 60, 60), face_at(50, 30, 130, 110), face_at(-20, -20, 40, 40)]
    together = [judge.score(pixels, face) for face in faces]
    assert all(score is not None and 0 <= score <= 1 for score in together)
    assert len(set(together)) == 3
    assert [judge.score(pixels, face) for face in reversed(faces)] == together[::-1]
    # What lies outside the square around the face does not count.
    elsewhere = pixels.copy()
    elsewhere[100:, :] = 0
    assert judge.score(elsewhere, faces[0]) == together[0]
    assert judge.score(pixels, face_at(500, 500, 600, 600)) is None


def test_temperature_moves_scores_to_the_middle() -> None:
    face, pixels, net = face_at(10, 10, 90, 90), picture(), network()
    scores = [Detector("x", net, 0.5, temperature).score(pixels, face) for temperature in (0.1, 1, 10)]
    distances = [abs(score - 0.5) for score in scores if score is not None]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > distances[2]


def test_a_flat_photo_has_a_score_and_a_slope() -> None:
    flat = torch.full((1, 3, 40, 40), 0.5).requires_grad_(True)
    net = network()
    net(flat).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    score = Detector("x", net, 0.5, 1.0).score(np.full((60, 60, 3), 128, np.uint8), face_at(5, 5, 50, 50))
    assert score is not None
    assert 0 <= score <= 1


def test_brightness_is_not_looked_at() -> None:
    faces = torch.rand(2, 3, 40, 40) * 0.5
    with torch.inference_mode():
        torch.testing.assert_close(network()(faces), network()(faces + 0.3), rtol=0, atol=1e-3)


# ---------------------------------------------------------------- cutting


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((40, 40, 60, 60), (26, 26)),
        ((-10, -10, 30, 30), (36, 36)),
        ((120, 100, 160, 140), (26, 26)),
        ((0, 0, 139, 119), (120, 140)),
        ((40, 40, 60, 50), (26, 26)),
    ],
)
def test_cut_face_is_clipped_to_the_photo(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    pixels = picture()
    part = cut_face(pixels, face_at(*box))
    assert part is not None
    assert part.shape[:2] == shape
    whole = np.lib.stride_tricks.sliding_window_view(pixels, (*part.shape[:2], 3))[:, :, 0]
    assert (whole == part).all((2, 3, 4)).any(), "the photo's own pixels, unscaled"


@pytest.mark.parametrize(
    "box", [(200, 0, 260, 60), (0, -90, 60, -30), (-65, 0, -5, 60), (50, 50, 50, 50), (60, 60, 20, 20)]
)
def test_cut_face_outside_the_photo(box: tuple[float, float, float, float]) -> None:
    assert cut_face(picture(), face_at(*box)) is None


def test_a_large_face_is_reduced() -> None:
    part = cut_face(picture(600, 900), face_at(100, 100, 500, 500))
    assert part is not None
    assert part.shape == (LARGEST_PX, LARGEST_PX, 3)
    assert part.dtype == np.uint8
    # Averaged, not picked: noise becomes calmer.
    assert part.std() < picture(600, 900).std() * 0.7
    tall = cut_face(picture(600, 60), face_at(0, 100, 60, 500))
    assert tall is not None
    assert tall.shape[0] == LARGEST_PX


def intake_of(relative: str, *faces: Face) -> Intake:
    return Intake(Item(relative, relative), b"bytes", Photo(picture(), "PNG"), faces, tuple(range(len(faces))))


def test_an_example_has_more_room_than_its_face() -> None:
    example = make_example(intake_of("Ann/lee.jpg.png", face_at(40, 40, 80, 80)), cloaked=True)
    assert example is not None
    # perturb --format png adds an ending: the copies of a photo have all before the first dot in common.
    assert (example.person, example.photo, example.cloaked) == ("Ann", "Ann/lee", True)
    assert example.window.shape == (68, 68, 3)
    assert example.face.shape == (52, 52, 3)
    assert make_example(intake_of("Ann/lee.jpg", face_at(400, 40, 480, 80)), cloaked=True) is None
    assert make_example(intake_of("Ann/lee.jpg"), cloaked=True) is None


def test_the_digest_tells_labels_paths_and_contents_but_not_order() -> None:
    made = [
        make_example(intake_of(f"{n}/0.jpg", face_at(40, 40, 80, 80)), cloaked=c) for n in "ab" for c in (False, True)
    ]
    examples = [example for example in made if example is not None]
    assert digest_of(examples) == digest_of(examples[::-1])
    assert len({digest_of([example]) for example in examples}) == 4


def test_a_split_without_both_labels_is_refused() -> None:
    examples = [replace(example, cloaked=False) for example in problem(40, 0)]
    with pytest.raises(ToolError, match="lacks clean or cloaked faces"):
        split_people(examples, seed=0, share=0.3)


# ---------------------------------------------------------------- training


def smooth_picture(rng: np.random.Generator, side: int) -> Any:
    from PIL import Image

    small = Image.fromarray(rng.integers(40, 215, (5, 5, 3), dtype=np.uint8))
    return np.array(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.float32)


def problem(count: int, seed: int) -> list[Example]:
    """Smooth pictures; the cloaked ones carry the blotchy texture of sign steps."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        cloaked = number % 2 == 1
        values = smooth_picture(rng, 110)
        if cloaked:
            values += 12 * np.sign(rng.normal(size=(55, 55, 3))).repeat(2, 0).repeat(2, 1)
        pixels = np.clip(values, 0, 255).astype(np.uint8)
        name = f"person {number}"
        face = pixels[10:100, 10:100]
        examples.append(Example(source=name, person=name, photo=f"{name}/0", cloaked=cloaked, window=pixels, face=face))
    return examples


def train(examples: list[Example], **changed: Any) -> list[tuple[ResidualNet, float]]:
    settings = {"epochs": 3, "batch": 16, "learning_rate": 3e-3, "seed": 0, "device": CPU, **changed}
    return list(train_network(examples, **settings))


def test_training_learns_a_texture() -> None:
    net, loss = train(problem(96, 0), epochs=5)[-1]
    unseen = problem(60, 1)
    labels = np.array([example.cloaked for example in unseen])
    area = area_under_roc(logits_of(net, unseen, CPU), labels)
    assert area is not None
    assert area > 0.9
    assert loss < 0.6


@pytest.mark.parametrize(("count", "batch"), [(6, 64), (2, 2), (9, 3), (20, 8)])
def test_few_faces_are_trained_on_too(count: int, batch: int) -> None:
    rounds = train(problem(count, 0), epochs=2, batch=batch)
    assert len(rounds) == 2
    assert all(np.isfinite(loss) for _, loss in rounds)
    torch.manual_seed(0)
    untrained = ResidualNet()
    assert not torch.equal(rounds[-1][0].head.weight, untrained.head.weight)


def test_the_seed_decides_the_network() -> None:
    (one, loss), (same, same_loss), (other, _) = (
        train(problem(8, 0), epochs=1, batch=8, seed=seed)[0] for seed in (3, 3, 2**70)
    )
    assert loss == same_loss
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_labels_are_balanced_in_every_batch() -> None:
    from facetools.detector_training import _batches

    examples = [example for example in problem(40, 0) if example.cloaked or int(example.person.split()[1]) < 6]
    batches = list(_batches(examples, 8, np.random.default_rng(0)))
    assert len(batches) >= 20 // 4
    for windows, labels in batches:
        assert windows.shape == (8, 3, WINDOW_PX, WINDOW_PX)
        assert labels.sum() == 4


def test_a_photos_two_copies_are_a_pair() -> None:
    examples = problem(12, 0)
    twins = [replace(example, cloaked=not example.cloaked) for example in examples[:8]]
    pairs = pair_up([*examples, *twins], np.random.default_rng(0))
    assert all((clean.cloaked, cloaked.cloaked) == (False, True) for clean, cloaked in pairs)
    together = [(clean.photo, cloaked.photo) for clean, cloaked in pairs if clean.photo == cloaked.photo]
    assert sorted(photo for photo, _ in together) == sorted(example.photo for example in examples[:8])
    # What has no partner is not lost.
    shown = {(e.photo, e.cloaked) for pair in pairs for e in pair}
    assert shown == {(e.photo, e.cloaked) for e in [*examples, *twins]}


@pytest.mark.parametrize("shape", [(8, 8), (20, 90), (96, 96), (300, 120)])
def test_augmented_windows_have_one_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = picture(*shape)
    before = pixels.copy()
    for _ in range(30):
        window = augment(pixels, rng)
        assert (window.shape, window.dtype) == ((WINDOW_PX, WINDOW_PX, 3), np.uint8)
    assert np.array_equal(pixels, before)
    first, second = (augment(pixels, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)


# ---------------------------------------------------------------- figures


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=0, max_size=30))
@settings(deadline=None)
def test_area_under_roc_by_brute_force(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], float)
    labels = np.array([label for _, label in pairs], bool)
    wins = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[labels], scores[~labels])]
    area = area_under_roc(scores, labels)
    assert area == (pytest.approx(np.mean(wins)) if wins else None)


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 4.0])
def test_fit_temperature_against_a_search(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000) * 3
    labels = rng.random(4000) < 1 / (1 + np.exp(-logits / true_temperature))
    found = fit_temperature(logits, labels)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 4001))
    signs = np.where(labels, -1, 1)
    losses = [np.log1p(np.exp(np.clip(signs * logits / t, -700, 700))).mean() for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)
    assert found == pytest.approx(true_temperature, rel=0.2)


def test_fit_temperature_stays_within_its_bounds() -> None:
    logits, labels = np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True])
    assert fit_temperature(logits, labels) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(logits, ~labels) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("relative", "person"),
    [
        ("Ann_Lee/0001.jpg", "Ann_Lee"),
        ("Ann_Lee/face/0001.jpg", "Ann_Lee"),
        ("lfw/Ann_Lee/0001.jpg", "Ann_Lee"),
        ("set/deep/Ann_Lee/x.y.jpg", "Ann_Lee"),
        ("ann.jpg", "ann"),
        ("ann.jpg.png", "ann"),
        ("face/ann.jpg", "ann"),
    ],
)
def test_person_of(relative: str, person: str) -> None:
    assert person_of(relative) == person


def test_a_person_is_in_the_same_part_clean_or_cloaked() -> None:
    people = [f"person {number}" for number in range(4000)] + ["\udcff"]
    clean = {name: is_held_out(person_of(f"{name}/0.jpg"), 0, 0.2) for name in people}
    cloaked = {name: is_held_out(person_of(f"{name}/0.jpg.png"), 0, 0.2) for name in people}
    assert clean == cloaked
    assert 0.17 < np.mean(list(clean.values())) < 0.23
    assert clean != {name: is_held_out(name, 1, 0.2) for name in people}
    larger = {name: is_held_out(name, 0, 0.4) for name in people}
    assert all(larger[name] for name in people if clean[name])
