"""Predict whether faces are cloaked, and by which attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facetools.detector.crops import LARGEST_PX, Crop, cut_square, face_crops, windows_of
from facetools.detector.network import ResidualNet
from facetools.faces.face import Face
from facetools.photos.photo import Pixels, as_tensor


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector predicts of a face.

    Attributes
    ----------
    score
        Probability that the face is cloaked, where half of the faces are; rounded to the six decimals of records, so
        that the printed score and the label agree.
    attacks
        ``score`` times the softmax over the attacks that the detector knows; only their order was measured.
    """

    score: float
    attacks: Mapping[str, float]

    @property
    def attack(self) -> str:
        """The likeliest attack."""
        return max(self.attacks, key=self.attacks.__getitem__)


FacePrediction = tuple[Prediction | None, Face]
"""A prediction, and the face that it is of."""


def describe_prediction(prediction: Prediction | None, threshold: float) -> dict[str, Any]:
    """Return a record's fields: score, label, the likeliest attack of a face labelled cloaked, each attack's score."""
    if prediction is None:
        return {"score": None, "label": None, "attack": None, "attacks": None}
    cloaked = prediction.score >= threshold
    label = "cloaked" if cloaked else "clean"
    attacks = {name: round(score, 6) for name, score in prediction.attacks.items()}
    return {
        "score": prediction.score,
        "label": label,
        "attack": prediction.attack if cloaked else None,
        "attacks": attacks,
    }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Map a logit to a score, sigmoid((logit - offset) / temperature), and a score to a label.

    Attributes
    ----------
    temperature, offset
        Fitted on held-out faces; ``temperature`` is positive.
    threshold
        Scores from here on are labelled ``cloaked``; chosen by `facetools.detector.calibration.choose_threshold`.
    """

    temperature: float
    offset: float
    threshold: float


@torch.inference_mode()
def logits_of(network: ResidualNet, crops: Sequence[Crop]) -> torch.Tensor:
    """Return a face's logits, float32 [1 + attacks]: those of the crop with the highest logit of cloaked."""
    device = network.head.weight.device
    each = torch.cat([network(as_tensor(np.ascontiguousarray(crop), device)) for crop in crops])
    return each[int(each[:, 0].argmax())]


@dataclass(frozen=True, slots=True)
class Detector:
    """Predict with a trained detector; see `facetools.detector.files.open_detector`.

    Attributes
    ----------
    name
        File name and the beginning of its sha256, for records.
    network
        Fused, on its device.
    attacks
        Names of the attacks that it distinguishes.
    calibration
        Maps its logits to scores and labels.
    """

    name: str
    network: ResidualNet
    attacks: tuple[str, ...]
    calibration: Calibration

    @property
    def threshold(self) -> float:
        """Scores from here on are labelled ``cloaked``."""
        return self.calibration.threshold

    def predict(self, pixels: Pixels, face: Face) -> Prediction | None:
        """Predict for one face of a photo, uint8 [H, W, 3] RGB; None if too little of it is in the photo."""
        crops = face_crops(pixels, face.box)
        return self._predict(crops) if crops else None

    def predict_photo(self, pixels: Pixels, faces: Sequence[Face], *, whole: bool = False) -> list[FacePrediction]:
        """Predict for the faces of a photo, uint8 [H, W, 3] RGB.

        With ``whole``, for all of the picture, whatever it shows: that of the window with the highest score.

        Returns
        -------
        list
            Predictions with their faces; of a whole photo, the window as if it were an aligned crop.
        """
        if not whole:
            return [(self.predict(pixels, face), face) for face in faces]
        windows = [(cut_square(pixels, box, 1, LARGEST_PX), box) for box in windows_of(pixels.shape)]
        found = [(self._predict([crop]), Face(box, 1.0, np.empty((0, 2)))) for crop, box in windows if crop is not None]
        return [max(found, key=lambda each: each[0].score)] if found else [(None, faces[0])]

    def _predict(self, crops: Sequence[Crop]) -> Prediction:
        logits = logits_of(self.network, crops).double().cpu()
        score = round(float(torch.sigmoid((logits[0] - self.calibration.offset) / self.calibration.temperature)), 6)
        shares = torch.softmax(logits[1:], 0).tolist()
        return Prediction(score, {name: score * share for name, share in zip(self.attacks, shares, strict=True)})
