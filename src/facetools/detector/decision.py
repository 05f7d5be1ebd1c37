"""Decide what a score means: the label at a rate of false alarms, and whether an attack may be named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from _toolio.errors import UsageError, param

if TYPE_CHECKING:
    from facetools.detector.reference import Reference

CLOAKED, UNCLEAR, CLEAN = "cloaked", "unclear", "clean"
"""Labels of faces."""

FALSE_ALARMS = 0.005
"""Default rate of false alarms of a detector that is trained."""

UNCLEAR_TIMES = 10
"""Of ordinary clean faces so many times as many may be unclear or cloaked as may be cloaked."""

LEAST_POWER = 0.5
"""Default power below which a face that is not cloaked is unclear."""

BETWEEN = "the score lies between clean_below and threshold"
"""Reason of an unclear label that the score decides."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector predicts of a face.

    Attributes
    ----------
    score
        Probability that the face is cloaked, where half of the faces are; rounded to the six decimals of records, so
        that the printed score and the label agree.
    attacks
        ``score`` times the softmax over the attacks that the detector knows.
    power
        Probability that a usual cloak, were there one, would be seen in this face; rounded as ``score`` is. None of a
        detector that does not predict it.
    """

    score: float
    attacks: Mapping[str, float]
    power: float | None = None

    @property
    def attack(self) -> str:
        """The likeliest attack."""
        return max(self.attacks, key=self.attacks.__getitem__)

    @property
    def share(self) -> float:
        """The likeliest attack's share of the softmax over attacks, 0 to 1; 0 of a score of 0."""
        whole = sum(self.attacks.values())
        return self.attacks[self.attack] / whole if whole else 0.0


class Thresholds(NamedTuple):
    """The two thresholds at a rate of false alarms.

    A face is cloaked from the score on that at most this share of clean faces reaches, clean below the score that at
    most ten times this share reaches, and unclear between; see `facetools.detector.calibration.threshold_table`.

    Attributes
    ----------
    false_alarms
        Share of the clean faces of each group that may reach ``cloaked_from``, 0 to 0.5.
    cloaked_from, clean_below
        Scores, 0 to 1; the second is not above the first.
    """

    false_alarms: float
    cloaked_from: float
    clean_below: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Map a prediction to a label.

    Attributes
    ----------
    cloaked_from
        Faces are labelled ``cloaked`` from this score on.
    clean_below
        Faces are labelled ``clean`` below this score; between the two they are ``unclear``.
    least_power
        Faces with less power are labelled ``unclear`` unless they are cloaked.
    attack_share
        The likeliest attack is named from this share of the softmax over attacks on; None: it is never named.
    """

    cloaked_from: float
    clean_below: float
    least_power: float = LEAST_POWER
    attack_share: float | None = None

    def label(self, prediction: Prediction) -> str:
        """Return ``cloaked``, ``unclear`` or ``clean``."""
        if prediction.score >= self.cloaked_from:
            return CLOAKED
        return UNCLEAR if self.is_weak(prediction) or prediction.score >= self.clean_below else CLEAN

    def is_weak(self, prediction: Prediction) -> bool:
        """Test whether a cloak, were there one, would likely not be seen in the face."""
        return prediction.power is not None and prediction.power < self.least_power

    def attack(self, prediction: Prediction) -> str | None:
        """Return the likeliest attack of a face labelled ``cloaked`` where it is known well enough, else None."""
        sure = self.attack_share is not None and prediction.share >= self.attack_share
        return prediction.attack if sure and self.label(prediction) == CLOAKED else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Map a logit to a score, sigmoid((logit - offset) / temperature), and a score to a label.

    Attributes
    ----------
    temperature, offset
        Fitted on held-out faces; ``temperature`` is positive.
    thresholds
        By rate of false alarms, ascending; one at least.
    false_alarms
        The default rate, of one of ``thresholds``.
    least_power, attack_share
        See `Decision`.
    power
        Temperature and offset of the logit of power.
    """

    temperature: float
    offset: float
    thresholds: tuple[Thresholds, ...]
    false_alarms: float = FALSE_ALARMS
    least_power: float = LEAST_POWER
    attack_share: float | None = None
    power: tuple[float, float] = (1.0, 0.0)

    def at(self, false_alarms: float | None = None) -> Thresholds:
        """Return the thresholds of the highest rate that is not above ``false_alarms``, by default the detector's own.

        Raises
        ------
        UsageError
            All rates are above it. The message names them.
        """
        rate = self.false_alarms if false_alarms is None else false_alarms
        held = [each for each in self.thresholds if each.false_alarms <= rate]
        if not held:
            rates = ", ".join(f"{each.false_alarms:g}" for each in self.thresholds)
            least = min(each.false_alarms for each in self.thresholds)
            raise UsageError(
                f"{param('false_alarms')} {rate:g}: the detector's thresholds are for {rates}; give {least:g} or more"
            )
        return held[-1]

    def decision(
        self, *, false_alarms: float | None = None, threshold: float | None = None, reference: Reference | None = None
    ) -> Decision:
        """Return the decision at a rate of false alarms, or with a threshold in place of ``cloaked_from``.

        With a ``reference`` the thresholds are by that, and by default for the detector's own rate, or the lowest that
        the reference can tell if that is higher.

        Raises
        ------
        UsageError
            A threshold is given with one of the others, or there is none for the rate.
        """
        for name, given in (("false_alarms", false_alarms), ("clean_scores", reference)):
            if threshold is not None and given is not None:
                raise UsageError(f"{param('threshold')} {threshold:g}: {param(name)} sets it too; leave one out")
        if reference:
            rate = max(self.false_alarms, reference.least_rate) if false_alarms is None else false_alarms
            _, cloaked_from, clean_below = reference.thresholds(rate)
        else:
            _, cloaked_from, clean_below = self.at(false_alarms)
        if threshold is not None:
            cloaked_from, clean_below = threshold, min(threshold, clean_below)
        return Decision(cloaked_from, clean_below, self.least_power, self.attack_share)


def describe_prediction(
    prediction: Prediction | None, decision: Decision, reference: Reference | None = None
) -> dict[str, Any]:
    """Return a record's fields: score, label, the attack if it may be named, each attack's score, power.

    With a ``reference`` also the p-value by that.
    """
    if prediction is None:
        return dict.fromkeys(("score", "label", "attack", "attacks", "power", *(["p_value"] if reference else [])))
    p_value = {"p_value": round(reference.p_value(prediction.score), 6)} if reference else {}
    return {
        "score": prediction.score,
        "label": decision.label(prediction),
        "attack": decision.attack(prediction),
        "attacks": {name: round(score, 6) for name, score in prediction.attacks.items()},
        "power": prediction.power,
        **p_value,
    }


def reason_of(prediction: Prediction | None, decision: Decision, box: tuple[float, float, float, float]) -> str | None:
    """Return why the face in a box, x0, y0, x1, y1 in pixels, has no score or is unclear; None where it is neither."""
    if prediction is None:
        return "too little of the face is in the photo"
    if decision.label(prediction) != UNCLEAR:
        return None
    if decision.is_weak(prediction):
        side = round(min(box[2] - box[0], box[3] - box[1]))
        return f"too little detail: a cloak would not be seen here (face of {side} pixels)"
    return BETWEEN
