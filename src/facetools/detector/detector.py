"""Predict whether faces are cloaked, and by which attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from facetools.detector.crops import LARGEST_PX, Crop, cut_square, face_crops, windows_of
from facetools.detector.decision import Calibration, Prediction
from facetools.detector.network import ResidualNet
from facetools.faces.face import Face
from facetools.photos.photo import Pixels, as_tensor

FacePrediction = tuple[Prediction | None, Face]
"""A prediction, and the face that it is of."""


@torch.inference_mode()
def logits_of(network: ResidualNet, crops: Sequence[Crop]) -> torch.Tensor:
    """Return a face's logits, float32 [2 + attacks]: those of the crop with the highest logit of cloaked."""
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
        """Scores from here on are labelled ``cloaked``, at the default rate of false alarms."""
        return self.calibration.at().cloaked_from

    def predict(self, pixels: Pixels, face: Face) -> Prediction | None:
        """Predict for one face of a photo, uint8 [H, W, 3] RGB; None if too little of it is in the photo."""
        crops = face_crops(pixels, face.box)
        return self._predict(crops) if crops else None

    def predict_photo(self, pixels: Pixels, faces: Sequence[Face], *, whole: bool = False) -> list[FacePrediction]:
        """Predict for the faces of a photo, uint8 [H, W, 3] RGB.

        With ``whole``, for all of the picture, whatever it shows: that of the window with the highest score, with the
        highest power of all windows.

        Returns
        -------
        list
            Predictions with their faces; of a whole photo, the window as if it were an aligned crop.
        """
        if not whole:
            return [(self.predict(pixels, face), face) for face in faces]
        windows = [(cut_square(pixels, box, 1, LARGEST_PX), box) for box in windows_of(pixels.shape)]
        found = [
            (self._predict([crop]), Face(box, None, np.empty((0, 2)))) for crop, box in windows if crop is not None
        ]
        if not found:
            return [(None, faces[0])]
        best, face = max(found, key=lambda each: each[0].score)
        return [(replace(best, power=max(each.power for each, _ in found if each.power is not None)), face)]

    def _predict(self, crops: Sequence[Crop]) -> Prediction:
        logits = logits_of(self.network, crops).double().cpu()
        score = _probability(logits[0], self.calibration.temperature, self.calibration.offset)
        shares = torch.softmax(logits[2:], 0).tolist()
        attacks = {name: score * share for name, share in zip(self.attacks, shares, strict=True)}
        return Prediction(score, attacks, _probability(logits[1], *self.calibration.power))


def _probability(logit: torch.Tensor, temperature: float, offset: float) -> float:
    return round(float(torch.sigmoid((logit - offset) / temperature)), 6)
