"""Thresholds that are set by scores of clean faces."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from _toolio.errors import ToolError, UsageError
from facetools.detector.decision import CLEAN, CLOAKED, UNCLEAR, Calibration, Prediction, Thresholds
from facetools.detector.reference import LEAST_FACES, Reference, upward

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
                Reference(faces[:place] + faces[place + 1 :], "x").thresholds(rate).cloaked_from <= score
                for place, score in enumerate(faces)
            ]
            # Equal faces are cloaked together or not: where none are, as many as the rate allows.
            assert sum(judged) == round(rate * 60) if digits == 6 else sum(judged) <= round(rate * 60)


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.3, 0.5])
def test_labels_are_what_p_values_say(digits: int, rate: float) -> None:
    own = Reference(faces := scores(50, digits=digits), "x")
    decision = CALIBRATION.decision(reference=own, false_alarms=rate)
    for score in {*faces, *scores(100, 1), 0.0, 1.0}:
        p_value = own.p_value(score)
        assert p_value == (sum(face >= score for face in faces) + 1) / 51
        wanted = CLOAKED if p_value <= rate + 1e-9 else UNCLEAR if p_value <= min(10 * rate, 0.5) + 1e-9 else CLEAN
        assert decision.label(Prediction(score, {"lowkey": score})) == wanted


@pytest.mark.parametrize(("faces", "rate"), [(199, 0.005), (5000, 0.005), (198, 1 / 199), (24, 0.04)])
def test_the_rate_is_the_detectors_or_the_lowest_that_can_be_told(faces: int, rate: float) -> None:
    own = Reference(scores(faces), "x")
    assert CALIBRATION.decision(reference=own) == CALIBRATION.decision(reference=own, false_alarms=rate)
    at_most = replace(CALIBRATION, false_alarms=0.25, thresholds=(Thresholds(0.25, 0.9, 0.5),))
    assert at_most.decision(reference=own) == CALIBRATION.decision(reference=own, false_alarms=0.25)


def test_clean_faces_with_a_score_of_one_are_refused() -> None:
    own = Reference([1.0, *scores(29)], "x")
    with pytest.raises(ToolError, match=r"^x: 1 or more clean faces have a score of 1, which none is above"):
        own.thresholds(1 / 31)
    assert own.thresholds(0.1).cloaked_from < 1


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(ToolError, match=r"^x: has scores of 18 clean faces, and thresholds need 19 or more"):
        Reference(scores(LEAST_FACES - 1), "x")
    own = Reference(scores(59), "x")
    assert own.thresholds(1 / 60).cloaked_from == pytest.approx(max(scores(59)) + 1e-6)
    with pytest.raises(
        UsageError, match=r"false_alarms 0\.01: by 59 .* can be 0\.0167 to 0\.5; give that, or 99 clean faces"
    ):
        own.thresholds(0.01)
    for rate in (0, 0.6):
        with pytest.raises(UsageError, match=r"0\.0167 to 0\.5; give that$"):
            own.thresholds(rate)


def test_what_is_advised_is_accepted() -> None:
    for faces in range(LEAST_FACES, 400):
        own = Reference(scores(faces), "x")
        own.thresholds(upward(own.least_rate))
        rate = own.least_rate / 3
        with pytest.raises(UsageError) as raised:
            own.thresholds(rate)
        more = int(raised.value.message.split("or ")[-1].split()[0].replace(",", ""))
        Reference(scores(more), "x").thresholds(rate)
        with pytest.raises(UsageError):
            Reference(scores(more - 1), "x").thresholds(rate)


def test_a_threshold_replaces_them() -> None:
    with pytest.raises(UsageError, match=r"threshold 0\.5: clean_scores sets it too; leave one"):
        CALIBRATION.decision(threshold=0.5, reference=Reference(scores(30), "x"))


def test_a_weak_face_stays_unclear() -> None:
    decision = replace(CALIBRATION, least_power=0.3).decision(reference=Reference(scores(60), "x"))
    assert decision.label(Prediction(0.0, {"lowkey": 0.0}, 0.2)) == UNCLEAR
    assert decision.label(Prediction(0.0, {"lowkey": 0.0}, 0.4)) == CLEAN
