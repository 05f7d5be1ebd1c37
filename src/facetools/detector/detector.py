"""Telling cloaked faces from clean ones: what is looked at, what is said of it, and the detector's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facetools.detector.crops import LARGEST_PX, cut_square, looks_of, windows_of
from facetools.detector.network import ResidualNet
from facetools.faces.face import Face
from facetools.photos.photo import Pixels, as_tensor


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of a face.

    Attributes
    ----------
    score
        0 clean to 1 cloaked: the chance that it is, where half of the faces are; of six digits, as records have it, so
        that what is printed and what is decided agree.
    attacks
        How ``score`` is shared out among the attacks that the detector knows; only their order is measured.
    """

    score: float
    attacks: Mapping[str, float]

    @property
    def attack(self) -> str:
        """The likeliest attack."""
        return max(self.attacks, key=self.attacks.__getitem__)


Look = tuple[Verdict | None, Face]
"""What is said, and of what."""


def describe_verdict(verdict: Verdict | None, threshold: float) -> dict[str, Any]:
    """Give a record's fields: score, label, the likeliest attack of a face labelled cloaked, each attack's score."""
    if verdict is None:
        return {"score": None, "label": None, "attack": None, "attacks": None}
    cloaked = verdict.score >= threshold
    label = "cloaked" if cloaked else "clean"
    attacks = {name: round(score, 6) for name, score in verdict.attacks.items()}
    return {"score": verdict.score, "label": label, "attack": verdict.attack if cloaked else None, "attacks": attacks}


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a logit to a score: sigmoid((logit - offset) / temperature).

    Attributes
    ----------
    temperature, offset
        Fitted on held-out faces; ``temperature`` is positive.
    threshold
        Scores from here on are labelled ``cloaked``.
    """

    temperature: float
    offset: float
    threshold: float


@torch.inference_mode()
def logits_of(network: ResidualNet, looks: list[Pixels]) -> torch.Tensor:
    """Give a face's logits, float32 [1 + attacks]: those of the look that seems cloaked most."""
    device = network.head.weight.device
    each = torch.cat([network(as_tensor(np.ascontiguousarray(look), device)) for look in looks])
    return each[int(each[:, 0].argmax())]


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector that is ready to use.

    Attributes
    ----------
    name
        File name and the beginning of its sha256, for records.
    network
        Fused, on its device.
    attacks
        Names of the attacks that it tells apart.
    calibration
        What its logits mean.
    """

    name: str
    network: ResidualNet
    attacks: tuple[str, ...]
    calibration: Calibration

    @property
    def threshold(self) -> float:
        """Scores from here on are labelled ``cloaked``."""
        return self.calibration.threshold

    def judge(self, pixels: Pixels, face: Face) -> Verdict | None:
        """Judge one face of a photo, uint8 [H, W, 3] RGB; None if too little of it is in the photo."""
        looks = looks_of(pixels, face.box)
        return self._judge(looks) if looks else None

    def look(self, pixels: Pixels, faces: Sequence[Face], *, whole: bool = False) -> list[Look]:
        """Judge the faces of a photo, uint8 [H, W, 3] RGB, or all of it, whatever it shows.

        A ``whole`` photo is judged by that window of it which seems cloaked most.

        Returns
        -------
        list
            Verdicts, as ``judge`` gives them, and of what: the faces, or the window, as if it were an aligned crop.
        """
        if not whole:
            return [(self.judge(pixels, face), face) for face in faces]
        windows = [(cut_square(pixels, box, 1, LARGEST_PX), box) for box in windows_of(pixels.shape)]
        judged = [(self._judge([look]), Face(box, 1.0, np.empty((0, 2)))) for look, box in windows if look is not None]
        return [max(judged, key=lambda each: each[0].score)] if judged else [(None, faces[0])]

    def _judge(self, looks: list[Pixels]) -> Verdict:
        logits = logits_of(self.network, looks).double().cpu()
        score = round(float(torch.sigmoid((logits[0] - self.calibration.offset) / self.calibration.temperature)), 6)
        shares = torch.softmax(logits[1:], 0).tolist()
        return Verdict(score, {name: score * share for name, share in zip(self.attacks, shares, strict=True)})
