"""Predict whether the faces of photos are cloaked, as the work of one process among others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _toolio.compute.device import pick_device
from facetools.detector.decision import Prediction
from facetools.detector.files import open_detector
from facetools.faces.face import Face
from facetools.faces.search import FaceSearch
from facetools.intake import Intake
from facetools.workers.photos import PhotoWorker


@dataclass(frozen=True, slots=True)
class Detected:
    """What a detector says of a photo.

    Attributes
    ----------
    faces
        Prediction, face and its number in the photo; the prediction is None where too little of the face is there.
    no_face
        Why there is none; None where there is one.
    notes
        Which part of the file alone was searched, if it holds more.
    """

    faces: tuple[tuple[Prediction | None, Face, int], ...]
    no_face: str | None
    notes: tuple[str, ...]


class DetectionWorker(PhotoWorker[Detected]):
    """Find faces and predict whether they are cloaked.

    Parameters
    ----------
    path
        The detector's file.
    search, batch
        As of `PhotoWorker`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, path: Path, search: FaceSearch, batch: int, device: str) -> None:
        super().__init__(pick_device(device), search, batch)
        self.detector = open_detector(path, self.device)
        self._whole = search.faces == "whole-photo"

    def make(self, intakes: Sequence[Intake]) -> list[Detected]:
        """Return the predictions of each photo."""
        return [self._detected(intake) for intake in intakes]

    def _detected(self, intake: Intake) -> Detected:
        found = self.detector.predict_photo(intake.photo.pixels, intake.faces, whole=self._whole)
        faces = tuple((*each, number) for each, number in zip(found, intake.numbers, strict=True))
        return Detected(faces, None if intake.faces else intake.no_face, intake.photo.left_out)
