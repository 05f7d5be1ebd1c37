"""What a score means: labels, reasons, and which attacks are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from _toolio.errors import UsageError
from facetools.detector.decision import Calibration, Decision, Prediction, Thresholds, describe_prediction, reason_of

BOX = (10.0, 20.0, 41.2, 62.0)
DECISION = Decision(0.75, 0.25, attack_share=0.6)
ROWS = (Thresholds(0.002, 0.9, 0.5), Thresholds(0.005, 0.75, 0.25), Thresholds(0.1, 0.5, 0.125))
CALIBRATION = Calibration(1.0, 0.0, ROWS, least_power=0.375, attack_share=0.6)
WEAK = "too little detail: a cloak would not be seen here (face of 31 pixels)"
BETWEEN = "the score lies between clean_below and threshold"


@pytest.mark.parametrize(
    ("score", "power", "label", "reason"),
    [
        (1.0, None, "cloaked", None),
        (0.75, None, "cloaked", None),
        (0.749999, None, "unclear", BETWEEN),
        (0.25, None, "unclear", BETWEEN),
        (0.249999, None, "clean", None),
        (0.0, 0.5, "clean", None),
        (0.0, 0.499999, "unclear", WEAK),
        (0.5, 0.1, "unclear", WEAK),
        (0.5, 0.9, "unclear", BETWEEN),
        (0.75, 0.0, "cloaked", None),
    ],
)
def test_labels_and_reasons(score: float, power: float | None, label: str, reason: str | None) -> None:
    prediction = Prediction(score, {"fawkes": score / 4, "lowkey": 3 * score / 4}, power)
    fields = describe_prediction(prediction, DECISION)
    assert list(fields) == ["score", "label", "attack", "attacks", "power"]
    assert (fields["score"], fields["label"], fields["power"]) == (score, label, power)
    assert fields["attack"] == ("lowkey" if label == "cloaked" else None)
    assert reason_of(prediction, DECISION, BOX) == reason


def test_an_attack_is_named_from_its_share_on_of_a_cloaked_face_alone() -> None:
    prediction = Prediction(0.75, {"fawkes": 0.2512345678, "lowkey": 0.4987654322})
    assert describe_prediction(prediction, DECISION)["attacks"] == {"fawkes": 0.251235, "lowkey": 0.498765}
    share = 0.4987654322 / 0.75
    assert prediction.share == pytest.approx(share)
    for limit, attack in ((0.0, "lowkey"), (share - 1e-9, "lowkey"), (share + 1e-9, None), (None, None)):
        assert replace(DECISION, attack_share=limit).attack(prediction) == attack
        assert replace(DECISION, attack_share=limit, cloaked_from=0.8).attack(prediction) is None
    assert Prediction(0.0, {"fawkes": 0.0, "lowkey": 0.0}).share == 0


def test_no_prediction_has_no_label_and_a_reason() -> None:
    assert describe_prediction(None, DECISION) == dict.fromkeys(("score", "label", "attack", "attacks", "power"))
    assert reason_of(None, DECISION, BOX) == "too little of the face is in the photo"


@pytest.mark.parametrize(
    ("rate", "row"), [(None, 1), (0.002, 0), (0.004999, 0), (0.005, 1), (0.05, 1), (0.1, 2), (0.5, 2)]
)
def test_a_rate_has_the_next_lower_row(rate: float | None, row: int) -> None:
    assert CALIBRATION.at(rate) is ROWS[row]
    expected = Decision(ROWS[row].cloaked_from, ROWS[row].clean_below, 0.375, 0.6)
    assert CALIBRATION.decision(false_alarms=rate) == expected


def test_a_rate_below_all_rows_is_one_line_that_names_them() -> None:
    with pytest.raises(
        UsageError,
        match=r"^false_alarms 0.001: the detector's thresholds are for 0.002, 0.005, 0.1; give 0.002 or more$",
    ):
        CALIBRATION.decision(false_alarms=0.001)


@pytest.mark.parametrize(("threshold", "clean_below"), [(0.9, 0.25), (0.3, 0.25), (0.25, 0.25), (0.1, 0.1), (0.0, 0.0)])
def test_a_threshold_of_ones_own(threshold: float, clean_below: float) -> None:
    assert CALIBRATION.decision(threshold=threshold) == Decision(threshold, clean_below, 0.375, 0.6)
    with pytest.raises(UsageError, match=r"^threshold .*: false_alarms sets it too; leave one out$"):
        CALIBRATION.decision(threshold=threshold, false_alarms=0.005)


def test_power_and_least_power_of_a_calibration_are_its_own() -> None:
    """A detector whose file says nothing else has power as its network says it."""
    assert CALIBRATION.power == (1.0, 0.0)
    decision = CALIBRATION.decision()
    for power, label in ((0.375, "clean"), (0.374999, "unclear")):
        assert decision.label(Prediction(0.1, {"fawkes": 0.1}, power)) == label
        assert decision.is_weak(Prediction(0.1, {"fawkes": 0.1}, power)) is (label == "unclear")
    assert not decision.is_weak(Prediction(0.1, {"fawkes": 0.1}))
