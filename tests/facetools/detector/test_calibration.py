"""What a detector's logits mean: calibration and figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_faces import example_of, face_at, intake_of, network, picture, striped_people
from facetools.detector import calibration
from facetools.detector.calibration import calibrate, fit, measure, score, score_changed, scores_of
from facetools.detector.crops import looks_of
from facetools.detector.detector import Calibration, Detector, logits_of
from facetools.detector.examples import Example, Reader
from facetools.metrics import area_under_roc
from facetools.transforms.augment import CHANGES, ODD, SURVIVED

Arrays = tuple[Any, Any]


# ---------------------------------------------------------------- fit


def loss(logits: Any, labels: Any, temperature: float, offset: float) -> float:
    """The log loss with both labels weighing the same and Platt's targets, written again."""
    total = 0.0
    for label in (False, True):
        part = logits[labels == label]
        odds = (part - offset) / temperature
        wanted = (len(part) + 1) / (len(part) + 2) if label else 1 / (len(part) + 2)
        total += 0.5 * (wanted * np.logaddexp(0, -odds) + (1 - wanted) * np.logaddexp(0, odds)).mean()
    return total


def draw(seed: int, count: int = 400, share: float = 0.3, apart: float = 2.0, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < share
    labels[:2] = False, True
    return scale * (rng.normal(size=count) + apart * labels), labels


@pytest.mark.parametrize(
    ("scale", "apart", "shift"),
    [(1, 2, 0), (3, 1, -4), (0.3, 2, 5), (20, 1, 100), (0.01, 2, 3), (1, -2, 7), (1, 8, -3), (0.001, 3, -2)],
)
def test_fit_against_a_search(scale: float, apart: float, shift: float) -> None:
    """At the bounds of the temperature the offset is the best one for that temperature."""
    logits, labels = draw(1, scale=scale, apart=apart)
    logits = logits + shift
    temperature, offset = fit(logits, labels)
    assert 0.05 <= temperature <= 20
    found = loss(logits, labels, temperature, offset)
    # Offsets may lie beyond the logits where the faces are told apart badly.
    reach = np.ptp(logits)
    offsets = np.linspace(logits.min() - reach, logits.max() + reach, 121)
    searched = min(loss(logits, labels, t, o) for t in np.geomspace(0.05, 20, 41) for o in offsets)
    assert found <= searched + 1e-6
    assert found >= searched - 0.02


@pytest.mark.parametrize(("temperature", "offset"), [(1.0, 0.0), (0.3, 1.0), (4.0, -3.0)])
def test_scores_that_are_chances_stay_so(temperature: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(60_000) < 0.2
    # Of two normal distributions around 2 and -2, of standard deviation 2, a value is its own log odds.
    odds = rng.normal(size=60_000) * 2 + np.where(labels, 2.0, -2.0)
    found = fit(odds * temperature + offset, labels)
    assert found == pytest.approx((temperature, offset), rel=0.03, abs=0.03 * temperature)


def test_the_offset_of_unbalanced_logits_is_found() -> None:
    """However few faces are cloaked, half of those at the offset are where half of all are."""
    for share in (0.03, 0.5, 0.97):
        logits, labels = draw(2, count=40_000, share=share, apart=3)
        _, offset = fit(logits + 10, labels)
        assert offset == pytest.approx(11.5, abs=0.1)


def test_fit_stays_within_its_bounds() -> None:
    logits, labels = np.array([-3.0, -2.0, 2.0, 3.0]) / 1000 + 5, np.array([False, False, True, True])
    temperature, offset = fit(logits, labels)
    assert (temperature, offset) == (pytest.approx(0.05), pytest.approx(5, abs=1e-3))
    temperature, offset = fit(logits, ~labels)
    assert temperature == pytest.approx(20)
    assert scores_of(logits, temperature, offset) == pytest.approx([0.5] * 4, abs=0.01)


def test_faces_that_a_threshold_parts_have_a_solution() -> None:
    for count in (1, 2, 50):
        logits, labels = np.r_[np.full(count, -4.0), np.full(count, 6.0)], np.arange(2 * count) >= count
        temperature, offset = fit(logits, labels)
        assert offset == pytest.approx(1, abs=1e-6)
        # Platt: no surer than one face more of the other kind would leave it.
        assert scores_of(logits, temperature, offset)[-1] == pytest.approx((count + 1) / (count + 2), abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
@settings(deadline=None, max_examples=25)
def test_fit_gives_numbers_for_any_logits(pairs: list[tuple[float, bool]]) -> None:
    logits, labels = np.array([z for z, _ in pairs]), np.array([label for _, label in pairs])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        temperature, offset = fit(logits, labels)
        scores = scores_of(logits, temperature, offset)
    assert 0.05 - 1e-12 <= temperature <= 20 + 1e-12
    assert np.isfinite(offset)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert loss(logits, labels, temperature, offset) <= loss(logits, labels, 20, float(np.median(logits))) + 1e-6


def test_huge_logits_have_scores_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scores_of(np.array([-1e300, -1e6, -800.0, 0.0, 800.0, 1e6, 1e300]), 1.0, 0.0)
    assert scores.tolist() == [0, 0, pytest.approx(0, abs=1e-300), 0.5, 1, 1, 1]
    logits = np.linspace(-5, 5, 11)
    assert scores_of(logits, 2, 1) == pytest.approx(1 / (1 + np.exp(-(logits - 1) / 2)))


# ---------------------------------------------------------------- scores of faces


def test_faces_are_looked_at_as_detect_does() -> None:
    net, pixels = network().fuse(), picture(420, 400)
    judge = Detector("x", net, ("a", "b"), Calibration(1.0, 0.0, 0.5))
    boxes = [(40.4, 60.2, 120.9, 150.1), (-10.0, -20.0, 60.0, 50.0), (80.0, 90.0, 360.0, 390.0)]
    examples = [
        Reader().read(intake_of("ann/0.jpg", pixels, face_at(*box)), cloak) for box in boxes for cloak in (-1, 0)
    ]
    found = score(net, [example for example in examples if example is not None])
    assert found.shape == (6, 3)
    assert found.dtype == np.float64
    for box, pair in zip(boxes, found.reshape(3, 2, 3), strict=True):
        verdict = judge.judge(pixels, face_at(*box))
        assert verdict is not None
        for logits in pair:
            chances = np.exp(logits[1:]) / np.exp(logits[1:]).sum()
            assert scores_of(logits[:1], 1, 0)[0] == pytest.approx(verdict.score, abs=1e-6)
            assert list(verdict.attacks.values()) == pytest.approx((verdict.score * chances).tolist(), abs=1e-6)


def test_a_network_in_training_is_measured_in_use() -> None:
    net, examples = network(), striped_people(2, side=50)
    expected = score(net, examples)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert np.array_equal(score(net.train(), examples), expected)
    assert [list(x) for x in score_changed(net.train(), examples, ["grey"])] == [
        list(x) for x in score_changed(net.eval(), examples, ["grey"])
    ]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_what_is_drawn_depends_on_the_photo_alone() -> None:
    net = network()
    one, other = example_of(picture(60, 60)), example_of(picture(60, 60), person="bob")
    names = ["jpeg", "grain", "resize"]
    first = list(score_changed(net, [one, other], names))
    turned = list(score_changed(net, [other, one], names))
    assert all(np.array_equal(a, b[::-1]) for a, b in zip(first, turned, strict=True))
    # A cloaked copy is changed as the clean one is; another photo, and another change, otherwise.
    copy = list(score_changed(net, [replace(one, cloak=3, source="elsewhere")], names))
    assert [float(x[0]) for x in copy] == [float(x[0]) for x in first]
    assert all(x[0] != x[1] for x in first)
    assert len({float(x[0]) for x in first}) == 3
    odd = replace(one, photo="\udcff/0")
    assert np.isfinite(next(score_changed(net, [odd], ["jpeg"]))).all()


def test_a_box_is_scaled_with_its_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(calibration, "looks_of", lambda pixels, box: looked.append((pixels.shape, box)) or [pixels])
    double: Callable[..., Any] = lambda pixels, _: pixels.repeat(2, 0).repeat(3, 1)  # noqa: E731
    monkeypatch.setattr(calibration, "CHANGES", {"double": double})
    list(score_changed(network(), [replace(example_of(picture(60, 50)), box=(10.0, 20.0, 30.0, 45.0))], ["double"]))
    assert looked == [((120, 150, 3), (30, 40, 90, 90))]


@pytest.mark.parametrize("name", sorted({*ODD, *SURVIVED}))
def test_a_small_face_at_the_edge_survives_every_change(name: str) -> None:
    """As little as an example has of a face is still looked at when it has shrunk."""
    example = Reader().read(intake_of("ann/0.jpg", picture(80, 80), face_at(-30, 20, 4.2, 50)), -1)
    assert example is not None
    assert np.isfinite(list(score_changed(network(), [replace(example, photo=str(n)) for n in range(8)], [name]))).all()


def test_figures_by_hand() -> None:
    # Folders 0 and 2 are of attack 1, folder 1 of attack 0; nothing is of attack 2.
    cloaks, attacks = [-1, -1, 0, 1, 2, -1], [1, 0, 1]
    logits = np.array(
        [[0.0, 9, 9, 9], [2, 0, 0, 0], [1, 0, 3, 1], [3, 0, 1, 0], [-1, 0, 1, 0], [-2, 0, 0, 0]], np.float64
    )
    figures = measure(logits, cloaks, ["a", "b", "c"], attacks)
    which = np.array(cloaks) >= 0
    assert figures["auc"] == area_under_roc(logits[:, 0], which) == pytest.approx(6 / 9)
    assert figures["attacks"] == {"a": 1.0, "b": pytest.approx(3 / 6), "c": None}
    assert figures["attack_accuracy"] == pytest.approx(2 / 3)


# ---------------------------------------------------------------- the threshold


class Faces:
    """Stands for a network: faces have the logits that they are given, as they are and after each change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plain: Arrays, changed: Arrays, odd: Any) -> None:
        self.unseen = [example_of(picture(8, 8), cloak=cloak) for cloak in (-1, 0, -1, 0)]
        self.asked: list[Any] = []

        def score(_: Any, examples: list[Example]) -> Any:
            (label,) = {example.cloaked for example in examples}
            return np.stack([plain[label], np.zeros(len(plain[label]))], 1)

        def score_changed(_: Any, examples: list[Example], names: Any) -> Any:
            (label,) = {example.cloaked for example in examples}
            self.asked.append((label, names))
            return iter(np.array_split(changed[label] if names is SURVIVED else odd, 3))

        monkeypatch.setattr(calibration, "score", score)
        monkeypatch.setattr(calibration, "score_changed", score_changed)

    def calibrate(self, false_alarms: float) -> tuple[Calibration, dict[str, float]]:
        return calibrate(network(), self.unseen, false_alarms=false_alarms)


def draws(seed: int, *means_and_counts: tuple[float, int]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=count) + mean for mean, count in means_and_counts]


@pytest.mark.parametrize("false_alarms", [0.0, 0.003, 0.01, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("odd_mean", [-3.0, -1.0, 1.5])
def test_the_threshold_is_the_lowest_that_few_clean_faces_reach(
    false_alarms: float, odd_mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, cloaked, clean_2, cloaked_2, odd = draws(0, (-1, 200), (2, 150), (-0.5, 300), (1, 280), (odd_mean, 800))
    faces = Faces(monkeypatch, (clean, cloaked), (clean_2, cloaked_2), odd)
    found, figures = faces.calibrate(false_alarms)
    # Every change once: of clean faces all, of cloaked ones those that a cloak should survive.
    assert sorted(name for label, names in faces.asked for name in names if not label) == sorted({*ODD, *SURVIVED})
    assert [names for label, names in faces.asked if label] == [SURVIVED]
    # Temperature and offset are those of all faces, as they are and changed, and not made to look odd.
    logits = np.r_[clean, clean_2, cloaked, cloaked_2]
    expected = fit(logits, np.arange(930) >= 500)
    assert (found.temperature, found.offset) == pytest.approx(expected)

    after = np.r_[clean_2, odd]
    parts = [scores_of(part, found.temperature, found.offset) for part in (clean, after)]
    steps = np.arange(5000, 10_001) / 10_000
    few = (all((part >= step).mean() <= false_alarms + 1e-9 for part in parts) for step in steps)
    assert found.threshold == pytest.approx(steps[list(few).index(True)], abs=1e-9)
    for name, part in (("recall", cloaked), ("false_alarms", clean), ("odd_false_alarms", after)):
        shown = scores_of(part, found.temperature, found.offset)
        assert figures[name] == pytest.approx((shown >= found.threshold).mean())


def test_a_face_that_is_on_the_threshold_is_cloaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores go together: where one more would be too many, none of them is cloaked."""
    clean, cloaked = np.r_[np.full(10, -3.0), np.full(10, 3.0)], np.full(20, 3.0)
    faces = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean)
    some, figures = faces.calibrate(0.49)
    assert (figures["false_alarms"], figures["recall"]) == (0, 0)
    assert some.threshold > scores_of(np.array([3.0]), some.temperature, some.offset)[0]
    _, figures = faces.calibrate(0.5)
    assert (figures["false_alarms"], figures["recall"]) == (0.5, 1)


def test_a_detector_that_is_always_right_has_the_threshold_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, cloaked = np.full(50, -9.0), np.full(50, 9.0)
    found, figures = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean).calibrate(0.0)
    assert found.threshold == 0.5
    assert figures == {"recall": 1, "false_alarms": 0, "odd_false_alarms": 0}


def test_real_faces_are_calibrated() -> None:
    net, unseen = network(), striped_people(3, side=40)
    found, figures = calibrate(net, unseen, false_alarms=0.0)
    assert 0.5 <= found.threshold <= 1
    assert figures["false_alarms"] == figures["odd_false_alarms"] == 0
    assert set(ODD) | set(SURVIVED) <= set(CHANGES)
    assert np.isfinite([found.temperature, found.offset]).all()


@pytest.mark.parametrize("side", [150, 230, 600])
def test_faces_of_any_size_are_scored_as_detect_looks_at_them(side: int) -> None:
    pixels = picture(side * 2 + 200, side * 2 + 170, seed=side)
    box = (90.0, 80.0, 90.0 + side, 80.0 + side)
    example = Reader().read(intake_of("ann/0.jpg", pixels, face_at(*box)), -1)
    net = network()
    expected = logits_of(net, looks_of(pixels, box)).double().numpy()
    assert score(net, [example]) == pytest.approx(expected[None], abs=1e-6)
    assert (example.reduced is not None) is (len(looks_of(pixels, box)) == 2) is (side > 196)
