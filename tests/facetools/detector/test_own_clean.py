"""Thresholds that are chosen on clean faces of one's own."""

from __future__ import annotations

import random

import pytest

from _toolio.errors import ToolError, UsageError
from facetools.detector.decision import CLEAN, CLOAKED, UNCLEAR, Calibration, Prediction, Thresholds
from facetools.detector.own_clean import LEAST_FACES, OwnClean

CALIBRATION = Calibration(1.0, 0.0, (Thresholds(0.005, 0.9, 0.5),), attack_share=0.6)


def scores(number: int, seed: int = 0, *, digits: int = 6) -> list[float]:
    """Scores as they are printed; with few digits many are equal."""
    draw = random.Random(seed)
    return [round(draw.random() ** 3, digits) for _ in range(number)]


def test_of_so_many_clean_faces_no_more_than_the_rate_are_cloaked() -> None:
    """Each of n + 1 faces is judged by the n others: what holds for any of them holds for the next one."""
    for digits in (1, 6):
        faces = scores(60, digits=digits)
        for rate in (1 / 60, 0.05, 0.1, 0.5):
            judged = [
                OwnClean(faces[:place] + faces[place + 1 :], "x").thresholds(rate).cloaked_from <= score
                for place, score in enumerate(faces)
            ]
            # Equal faces are cloaked together or not: where none are, as many as the rate allows.
            assert sum(judged) == round(rate * 60) if digits == 6 else sum(judged) <= round(rate * 60)


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.3, 0.5])
def test_labels_are_what_p_values_say(digits: int, rate: float) -> None:
    own = OwnClean(faces := scores(50, digits=digits), "x")
    decision = CALIBRATION.decision(own=own, false_alarms=rate)
    for score in {*faces, *scores(100, 1), 0.0, 1.0}:
        p_value = own.p_value(score)
        assert p_value == (sum(face >= score for face in faces) + 1) / 51
        wanted = CLOAKED if p_value <= rate + 1e-9 else UNCLEAR if p_value <= min(10 * rate, 0.5) + 1e-9 else CLEAN
        assert decision.label(Prediction(score, {"lowkey": score})) == wanted


def test_the_rate_is_that_of_detectors_or_the_lowest_that_can_be_told() -> None:
    assert OwnClean(scores(199), "x").thresholds().false_alarms == 0.005
    assert OwnClean(scores(5000), "x").thresholds().false_alarms == 0.005
    assert OwnClean(scores(198), "x").thresholds() == OwnClean(scores(198), "x").thresholds(1 / 199)
    assert OwnClean(scores(24), "x").thresholds().false_alarms == pytest.approx(0.04)


def test_nothing_is_cloaked_where_clean_faces_have_the_highest_score() -> None:
    own = OwnClean([1.0] * 30, "x")
    assert CALIBRATION.decision(own=own).label(Prediction(1.0, {"lowkey": 1.0})) == CLEAN
    assert own.p_value(1.0) == 1


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(ToolError, match=r"clean x: has scores of 18 clean faces, and thresholds need 19 or more"):
        OwnClean(scores(LEAST_FACES - 1), "x")
    own = OwnClean(scores(59), "x")
    assert own.thresholds(1 / 60).cloaked_from == pytest.approx(max(scores(59)) + 1e-6)
    with pytest.raises(UsageError, match=r"false_alarms 0\.01: of 59 .* for 0\.0167 or more; give that, or 99 faces"):
        own.thresholds(0.01)
    with pytest.raises(UsageError, match=r"0\.0167 or more; give that$"):
        own.thresholds(0)


def test_a_threshold_replaces_them() -> None:
    with pytest.raises(UsageError, match=r"threshold 0\.5: replaces clean; give one of both"):
        CALIBRATION.decision(threshold=0.5, own=OwnClean(scores(30), "x"))
