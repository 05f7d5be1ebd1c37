"""Scores of held-out faces, and figures of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detector_faces import example_of, face_at, intake_of, network, picture, sources, striped_people
from facetools.detector import scoring
from facetools.detector.crops import face_crops
from facetools.detector.detector import logits_of
from facetools.detector.scoring import MOST_CHANGED, WEAKENED, measure, score, score_changed, score_sources
from facetools.detector.training.examples import KEPT_PX, Example, ExampleReader
from facetools.metrics import area_under_roc
from facetools.transforms.augment import ODD, SURVIVED


def test_faces_are_looked_at_as_detect_does() -> None:
    net, pixels = network().fuse(), picture(420, 400)
    boxes = [(40.4, 60.2, 120.9, 150.1), (-10.0, -20.0, 60.0, 50.0), (80.0, 90.0, 360.0, 360.0)]
    examples = [
        ExampleReader().read(intake_of("ann/0.jpg", pixels, face_at(*box)), cloak) for box in boxes for cloak in (-1, 0)
    ]
    found = score(net, [example for example in examples if example is not None])
    assert found.shape == (6, 4)
    assert found.dtype == np.float64
    for box, pair in zip(boxes, found.reshape(3, 2, 4), strict=True):
        expected = logits_of(net, face_crops(pixels, box)).double().numpy()
        for logits in pair:
            assert logits == pytest.approx(expected, abs=1e-6)


def test_a_network_in_training_is_measured_in_use() -> None:
    net, examples = network(), striped_people(2, side=50)
    expected = score(net, examples)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert np.array_equal(score(net.train(), examples), expected)
    changed, in_use = (next(score_changed(each, examples, ["grey"])) for each in (net.train(), net.eval()))
    assert changed.shape == (4, 4)
    assert np.array_equal(changed, in_use)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_what_is_drawn_depends_on_the_photo_alone() -> None:
    net = network()
    one, other = example_of(picture(60, 60)), example_of(picture(60, 60), person="bob")
    names = ["jpeg", "grain", "resize"]
    first = [each[:, 0] for each in score_changed(net, [one, other], names)]
    turned = [each[:, 0] for each in score_changed(net, [other, one], names)]
    assert all(np.array_equal(a, b[::-1]) for a, b in zip(first, turned, strict=True))
    # A cloaked copy is changed as the clean one is; another photo, and another change, otherwise.
    copy = list(score_changed(net, [replace(one, cloak=3, source="elsewhere")], names))
    assert [float(x[0, 0]) for x in copy] == [float(x[0]) for x in first]
    assert all(x[0] != x[1] for x in first)
    assert len({float(x[0]) for x in first}) == 3
    odd = replace(one, photo="\udcff/0")
    assert np.isfinite(next(score_changed(net, [odd], ["jpeg"]))).all()


def test_a_box_is_scaled_with_its_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(scoring, "face_crops", lambda pixels, box: looked.append((pixels.shape, box)) or [pixels])
    double: Callable[..., Any] = lambda pixels, _: pixels.repeat(2, 0).repeat(3, 1)  # noqa: E731
    monkeypatch.setattr(scoring, "CHANGES", {"double": double})
    list(score_changed(network(), [replace(example_of(picture(60, 50)), box=(10.0, 20.0, 30.0, 45.0))], ["double"]))
    assert looked == [((120, 150, 3), (30, 40, 90, 90))]


@pytest.mark.parametrize("name", sorted({*ODD, *SURVIVED}))
def test_a_small_face_at_the_edge_survives_every_change(name: str) -> None:
    """As little as an example has of a face is still looked at when it has shrunk."""
    example = ExampleReader().read(intake_of("ann/0.jpg", picture(80, 80), face_at(-30, 20, 4.2, 50)), -1)
    assert example is not None
    assert np.isfinite(list(score_changed(network(), [replace(example, photo=str(n)) for n in range(8)], [name]))).all()


def test_figures_by_hand() -> None:
    # Folders 0 and 2 are of attack 1, folder 1 of attack 0; nothing is of attack 2.
    cloaks, attacks = [-1, -1, 0, 1, 2, -1], [1, 0, 1]
    logits = np.array(
        [[0.0, 5, 9, 9, 9], [2, 5, 0, 0, 0], [1, 9, 0, 3, 1], [3, 9, 0, 1, 0], [-1, -9, 0, 1, 0], [-2, 9, 0, 0, 0]]
    )
    figures = measure(logits, cloaks, ["a", "b", "c"], attacks)
    which = np.array(cloaks) >= 0
    assert figures["auc"] == area_under_roc(logits[:, 0], which) == pytest.approx(6 / 9)
    assert figures["attacks"] == {"a": 1.0, "b": pytest.approx(3 / 6), "c": None}
    assert figures["attack_accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("side", [150, 230, 280])
def test_faces_of_any_size_are_scored_as_detect_looks_at_them(side: int) -> None:
    pixels = picture(side * 2 + 200, side * 2 + 170, seed=side)
    box = (90.0, 80.0, 90.0 + side, 80.0 + side)
    example = ExampleReader().read(intake_of("ann/0.jpg", pixels, face_at(*box)), -1)
    net = network()
    expected = logits_of(net, face_crops(pixels, box)).double().numpy()
    assert score(net, [example]) == pytest.approx(expected[None], abs=1e-6)


@pytest.mark.parametrize("side", [281, 600, 900])
def test_a_face_that_was_kept_reduced_is_looked_at_nearly_as_detect_does(side: int, face_photo: bytes) -> None:
    """Reduced twice, and rounded between: by no more than a grey level or two at the sharpest edges."""
    photo = Image.open(io.BytesIO(face_photo)).convert("RGB").resize((2 * side, 2 * side), Image.Resampling.BICUBIC)
    pixels, box = np.array(photo), (0.5 * side, 0.5 * side, 1.5 * side, 1.5 * side)
    example = ExampleReader().read(intake_of("ann/0.jpg", pixels, face_at(*box)), -1)
    assert max(example.pixels.shape) == KEPT_PX
    (crop,), (expected,) = scoring._crops(example, lambda pixels: pixels), face_crops(pixels, box)
    assert crop.shape == expected.shape
    apart = np.abs(crop - expected)
    assert apart.mean() < 0.6


def test_sources_are_scored_apart_and_some_after_changes() -> None:
    net = network()
    examples = sources(a=2, b=3) + [each for each in sources(c=2) if not each.cloaked]
    clean_of = {(each.group, each.photo): each.source for each in examples if not each.cloaked}
    examples = [
        replace(each, partner=clean_of[each.group, each.photo] if each.cloaked and each.cloak else None)
        for each in examples
    ]
    found = score_sources(net, examples, (1, 0))
    assert list(found) == ["a", "b", "c"]
    for name, scores in found.items():
        mine = [each for each in examples if each.group == name]
        clean, cloaked = ([each for each in mine if each.cloaked is label] for label in (False, True))
        assert np.array_equal(scores.clean, score(net, clean))
        assert list(scores.attacks) == [(1, 0)[each.cloak] for each in cloaked]
        assert scores.cloaked.shape == (len(cloaked), 4)
        assert set(scores.clean_after) == {*ODD, *SURVIVED}
        assert {each.shape for each in scores.clean_after.values()} == {(len(clean), 4)}
        if cloaked:
            # What power says of a cloaked face is what it says of the clean one.
            copies = {each.source: each for each in clean}
            twins = [copies.get(each.partner or "", each) for each in cloaked]
            assert twins != cloaked
            others = [0, 2, 3]
            assert np.array_equal(scores.cloaked[:, others], score(net, cloaked)[:, others])
            assert np.array_equal(scores.cloaked[:, 1], score(net, twins)[:, 1])
            assert set(scores.cloaked_after) == set(WEAKENED) >= set(SURVIVED)
            assert {each.shape for each in scores.cloaked_after.values()} == {(len(cloaked), 4)}
            (blurred,), (copied,) = (score_changed(net, part, ["blur"]) for part in (cloaked, twins))
            assert np.array_equal(scores.cloaked_after["blur"][:, others], blurred[:, others])
            assert np.array_equal(scores.cloaked_after["blur"][:, 1], copied[:, 1])
        else:
            assert not scores.cloaked_after


def test_of_many_faces_some_of_every_part_are_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []

    def score_changed(_: Any, examples: Sequence[Example], names: Sequence[str]) -> list[np.ndarray]:
        shown.append([each.person for each in examples])
        return [np.zeros(len(examples)) for _ in names]

    monkeypatch.setattr(scoring, "score_changed", score_changed)
    monkeypatch.setattr(scoring, "score", lambda _, examples: np.zeros((len(examples), 3)))
    blank = example_of(picture(8, 8))
    examples = [replace(blank, person=f"{number}") for number in range(2 * MOST_CHANGED + 7)]
    score_sources(network(1), examples, (0,))
    assert shown == [[str(number) for number in range(0, 127, 3)]]
