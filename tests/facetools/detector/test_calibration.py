"""Calibration of a detector: temperature, offset and threshold."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_faces import example_of, network, picture, striped_people
from facetools.detector import calibration
from facetools.detector.calibration import (
    RATES,
    calibrate,
    choose_threshold,
    fit,
    fit_platt,
    least_share,
    scores_of,
    threshold_table,
)
from facetools.detector.decision import Calibration
from facetools.detector.training.examples import Example
from facetools.metrics import share_interval
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
    expected = fit_platt(logits, np.arange(930) >= 500)
    assert (found.temperature, found.offset) == pytest.approx(expected)

    after = np.r_[clean_2, odd]
    parts = [scores_of(part, found.temperature, found.offset) for part in (clean, after)]
    steps = np.arange(5000, 10_001) / 10_000
    few = (all((part >= step).mean() <= false_alarms + 1e-9 for part in parts) for step in steps)
    assert found.at().cloaked_from == pytest.approx(steps[list(few).index(True)], abs=1e-9)
    for name, part in (("recall", cloaked), ("false_alarms", clean), ("odd_false_alarms", after)):
        shown = scores_of(part, found.temperature, found.offset)
        assert figures[name] == pytest.approx((shown >= found.at().cloaked_from).mean())


def test_a_face_that_is_on_the_threshold_is_cloaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores go together: where one more would be too many, none of them is cloaked."""
    clean, cloaked = np.r_[np.full(10, -3.0), np.full(10, 3.0)], np.full(20, 3.0)
    faces = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean)
    some, figures = faces.calibrate(0.49)
    assert (figures["false_alarms"], figures["recall"]) == (0, 0)
    assert some.at().cloaked_from > scores_of(np.array([3.0]), some.temperature, some.offset)[0]
    _, figures = faces.calibrate(0.5)
    assert (figures["false_alarms"], figures["recall"]) == (0.5, 1)


def test_a_detector_that_is_always_right_has_the_threshold_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, cloaked = np.full(50, -9.0), np.full(50, 9.0)
    found, figures = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean).calibrate(0.0)
    assert found.at().cloaked_from == 0.5
    assert figures == {"recall": 1, "false_alarms": 0, "odd_false_alarms": 0}


def test_real_faces_are_calibrated() -> None:
    net, unseen = network(), striped_people(3, side=40)
    found, figures = calibrate(net, unseen, false_alarms=0.0)
    assert 0.5 <= found.at().cloaked_from <= 1
    assert figures["false_alarms"] == figures["odd_false_alarms"] == 0
    assert set(ODD) | set(SURVIVED) <= set(CHANGES)
    assert np.isfinite([found.temperature, found.offset]).all()


def test_the_threshold_is_that_of_the_worse_set_of_clean_faces() -> None:
    tame, wild = np.linspace(0, 0.6, 101), np.linspace(0, 0.9, 101)
    assert choose_threshold(tame, wild, false_alarms=0.0) == pytest.approx(0.9001)
    assert choose_threshold(wild, tame, false_alarms=0.1) == pytest.approx(0.8101)
    assert choose_threshold(tame / 2, false_alarms=0.0) == 0.5
    assert choose_threshold(np.ones(3), false_alarms=0.0) == 1.0


def test_a_row_for_each_rate_that_the_faces_can_hold() -> None:
    """By hand, over every threshold of four decimals."""
    groups = [np.random.default_rng(0).beta(1, 3, 400), np.random.default_rng(1).beta(2, 3, 90)]
    table = threshold_table(groups, false_alarms=0.004)
    assert [row.false_alarms for row in table] == [0.003, 0.004, 0.005, 0.01, 0.02, 0.05, 0.1]
    steps = np.arange(10_001) / 10_000

    def least(share: float) -> float:
        return float(next(step for step in steps if all((scores >= step).mean() <= share for scores in groups)))

    for rate, cloaked_from, clean_below in table:
        assert cloaked_from == pytest.approx(max(0.5, least(rate)), abs=1e-9)
        assert clean_below == pytest.approx(min(0.5, max(0.1, least(min(0.5, 10 * rate)))), abs=1e-9)
    assert [row.clean_below for row in table] == sorted((row.clean_below for row in table), reverse=True)
    assert 0.1 < table[-1].clean_below < 0.5, "both bounds and what lies between are seen"


def test_few_faces_have_the_default_rate_alone_and_many_have_all() -> None:
    (row,) = threshold_table([np.array([0.2, 0.7])], false_alarms=0.005)
    assert row == (0.005, pytest.approx(0.7001), 0.5)
    assert [row.false_alarms for row in threshold_table([np.linspace(0, 1, 1000)], false_alarms=0.02)] == list(RATES)


def test_clean_scores_that_are_low_keep_faces_clean() -> None:
    """Of a detector that parts all faces nothing is unclear for being in the upper half of low scores."""
    assert {row[1:] for row in threshold_table([np.full(2000, 0.01)], false_alarms=0.005)} == {(0.5, 0.1)}


def test_a_fit_takes_logits_by_source_and_heeds_the_worst() -> None:
    tame, wild, cloaked, odd = draws(3, (-6, 300), (-2, 200), (4, 250), (1, 400))
    found = fit({"tame": tame, "wild": wild}, cloaked)
    logits = np.r_[tame, wild, cloaked]
    assert (found.temperature, found.offset) == fit_platt(logits, np.arange(750) >= 500)
    scores = [scores_of(part, found.temperature, found.offset) for part in (tame, wild)]
    assert found.thresholds == threshold_table(scores, false_alarms=0.005)
    assert (found.false_alarms, found.attack_share) == (0.005, None)
    other = fit({"tame": tame, "wild": wild}, cloaked, groups={"odd": odd}, false_alarms=0.01)
    assert (other.temperature, other.offset, other.false_alarms) == (found.temperature, found.offset, 0.01)
    odds = scores_of(odd, found.temperature, found.offset)
    assert other.thresholds == threshold_table([odds], false_alarms=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_attacks_are_named_from_the_least_share_at_which_nine_of_ten_are_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.integers(20, 101, 600) / 100
    right = rng.random(600) < shares**0.2
    good = [
        share for share in sorted({*shares})
        if share_interval(int(right[shares >= share].sum()), int((shares >= share).sum()))[0] >= 0.9
    ]  # fmt: skip
    assert least_share(shares, right) == good[0]


def test_attacks_that_are_right_too_seldom_or_too_few_are_not_named() -> None:
    assert least_share(np.linspace(0.5, 1, 34), np.ones(34, bool)) is None
    assert least_share(np.linspace(0.5, 1, 35), np.ones(35, bool)) == 0.5
    assert least_share(np.linspace(0.5, 1, 500), np.arange(500) % 5 > 0) is None
    assert least_share(np.empty(0), np.empty(0, bool)) is None


def test_calibration_knows_which_attacks_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two folders of one attack and one of another; the attacks' logits are the last."""
    unseen = [example_of(picture(8, 8), cloak=cloak) for cloak in (-1, *[0, 1, 2] * 40)]
    attacks = [0, 0, 1]

    def score(_: Any, examples: list[Example]) -> Any:
        chosen = [attacks[example.cloak] for example in examples]
        # Every third is taken for the other attack, with less confidence.
        wrong = np.arange(len(chosen)) % 3 == 0
        first = (np.array(chosen) == 0) ^ wrong
        sure = np.where(wrong, 1.0, 3.0)
        return np.stack([np.zeros(len(chosen)), np.full(len(chosen), 9.0), sure * first, sure * ~first], 1)

    monkeypatch.setattr(calibration, "score", score)
    monkeypatch.setattr(calibration, "score_changed", lambda _, examples, names: iter([np.zeros(len(examples))]))
    found, _ = calibrate(network(), unseen, false_alarms=0.1, attacks=attacks)
    assert found.attack_share == pytest.approx(1 / (1 + np.exp(-3)))
    assert calibrate(network(), unseen, false_alarms=0.1)[0].attack_share is None
