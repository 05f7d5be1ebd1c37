"""Platt scaling: temperature and offset of logits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetools.detector.platt import fit_platt, scores_of

Arrays = tuple[Any, Any]


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
    temperature, offset = fit_platt(logits, labels)
    assert 0.05 <= temperature <= 20
    found = loss(logits, labels, temperature, offset)
    # Offsets may lie beyond the logits where the faces are told apart badly.
    reach = np.ptp(logits)
    offsets = np.linspace(logits.min() - reach, logits.max() + reach, 121)
    searched = min(loss(logits, labels, t, o) for t in np.geomspace(0.05, 20, 41) for o in offsets)
    assert found <= searched + 1e-6
    assert found >= searched - 0.02


def by_newton(logits: Any, labels: Any) -> tuple[float, float]:
    """Newton's method with halved steps, which an earlier version fitted by."""
    counts = np.array([(~labels).sum(), labels.sum()])
    place = labels.astype(int)
    wanted, weights = np.array([1, counts[1] + 1])[place] / (counts + 2)[place], (0.5 / counts)[place]
    columns = np.stack([logits, -np.ones_like(logits)], 1)

    def cost(line: Any) -> float:
        z = columns @ line
        return float(weights @ (np.logaddexp(0, z) - wanted * z))

    def descend(line: Any, free: Any) -> Any:
        moved = columns * free
        for _ in range(100):
            chances = np.exp(-np.logaddexp(0, -columns @ line))
            slope = moved.T @ (weights * (chances - wanted))
            curve = (moved * (weights * chances * (1 - chances))[:, None]).T @ moved + 1e-9 * np.eye(2)
            step = np.linalg.solve(curve, slope)
            while cost(line - step) > cost(line) and abs(step).max() > 1e-9:
                step /= 2
            line = line - step
            if abs(step).max() < 1e-9:
                break
        return line

    line = descend(np.array([1.0, 0.0]), np.ones(2))
    sharpness = float(np.clip(line[0], 1 / 20, 1 / 0.05))
    if sharpness != line[0]:
        line = descend(np.array([sharpness, sharpness * float(np.median(logits))]), np.array([0.0, 1.0]))
    return 1 / sharpness, float(line[1] / sharpness)


def logits_like_a_detector(seed: int, count: int, share: float) -> Arrays:
    """Clean faces far below zero; cloaked ones above it, but for weak cloaks that lie among the clean ones."""
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < share
    labels[:2] = False, True
    weak = rng.random(count) < 0.1
    return np.where(labels & ~weak, rng.normal(7, 3, count), rng.normal(-8, 3, count)) + rng.gumbel(0, 1, count), labels


@pytest.mark.parametrize("count", [10, 400, 20_000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (0.01, -300), (40, 1000)])
def test_fit_agrees_with_newton_s_method(count: int, share: float, scale: float, shift: float) -> None:
    """To a millionth of the temperature, and of a score."""
    logits, labels = logits_like_a_detector(count, count, share)
    logits = scale * logits + shift
    found, expected = fit_platt(logits, labels), by_newton(logits, labels)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert scores_of(logits, *found) == pytest.approx(scores_of(logits, *expected), abs=1e-6)


def test_fit_agrees_with_newton_s_method_where_there_is_little_to_fit() -> None:
    few, none = np.array([-3.0, -1.0, 2.0, 5.0]), np.zeros(4, bool)
    cases = {
        "separable": (few, few > 0),
        "separable, the wrong way round": (few, few < 0),
        "one that is far off": (np.array([-3.0, -1.0, 2.0, 900.0]), np.array([False, True, True, False])),
        "one of each": (np.array([1.0, 1.5]), np.array([False, True])),
        "two that are equal": (np.array([4.0, 4.0]), np.array([False, True])),
    }
    for name, (logits, labels) in cases.items():
        found, expected = fit_platt(logits, labels), by_newton(logits, labels)
        assert scores_of(logits, *found) == pytest.approx(scores_of(logits, *expected), abs=1e-6), name
    for labels in (none, ~none):  # of one kind only, which `calibrate` never passes
        with np.errstate(divide="ignore"):
            found, expected = fit_platt(few, labels), by_newton(few, labels)
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("temperature", "offset"), [(1.0, 0.0), (0.3, 1.0), (4.0, -3.0)])
def test_scores_that_are_chances_stay_so(temperature: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(60_000) < 0.2
    # Of two normal distributions around 2 and -2, of standard deviation 2, a value is its own log odds.
    odds = rng.normal(size=60_000) * 2 + np.where(labels, 2.0, -2.0)
    found = fit_platt(odds * temperature + offset, labels)
    assert found == pytest.approx((temperature, offset), rel=0.03, abs=0.03 * temperature)


def test_the_offset_of_unbalanced_logits_is_found() -> None:
    """However few faces are cloaked, half of those at the offset are where half of all are."""
    for share in (0.03, 0.5, 0.97):
        logits, labels = draw(2, count=40_000, share=share, apart=3)
        _, offset = fit_platt(logits + 10, labels)
        assert offset == pytest.approx(11.5, abs=0.1)


def test_fit_stays_within_its_bounds() -> None:
    logits, labels = np.array([-3.0, -2.0, 2.0, 3.0]) / 1000 + 5, np.array([False, False, True, True])
    temperature, offset = fit_platt(logits, labels)
    assert (temperature, offset) == (pytest.approx(0.05), pytest.approx(5, abs=1e-3))
    temperature, offset = fit_platt(logits, ~labels)
    assert temperature == pytest.approx(20)
    assert scores_of(logits, temperature, offset) == pytest.approx([0.5] * 4, abs=0.01)


def test_faces_that_a_threshold_parts_have_a_solution() -> None:
    for count in (1, 2, 50):
        logits, labels = np.r_[np.full(count, -4.0), np.full(count, 6.0)], np.arange(2 * count) >= count
        temperature, offset = fit_platt(logits, labels)
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
        temperature, offset = fit_platt(logits, labels)
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


def test_unbalanced_scores_are_chances_where_cloaked_faces_are_as_seldom_as_in_the_data() -> None:
    """A face counts as one, whatever its label, so that scores sum up to how many are cloaked."""
    logits, labels = draw(4, count=20_000, share=0.1)
    plain = scores_of(logits, *fit_platt(logits, labels, balanced=False))
    assert plain.sum() == pytest.approx(labels.sum(), rel=0.01)
    balanced = scores_of(logits, *fit_platt(logits, labels))
    assert balanced[labels].mean() + balanced[~labels].mean() == pytest.approx(1, abs=0.01)
    few, all_of_one = logits[:20], np.ones(20, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one label only there is nothing that would divide by zero
        for labels in (all_of_one, ~all_of_one):
            chances = scores_of(few, *fit_platt(few, labels, balanced=False))
            assert chances.mean() == pytest.approx(21 / 22 if labels[0] else 1 / 22, abs=0.01)


def test_labels_of_equal_numbers_are_balanced_as_they_are() -> None:
    logits, _ = draw(5)
    labels = np.arange(len(logits)) % 2 == 0
    logits = logits + 2 * labels
    assert fit_platt(logits, labels, balanced=False) == pytest.approx(fit_platt(logits, labels), rel=1e-6)
