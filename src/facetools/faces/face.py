"""Faces: box, confidence, landmarks; read from and written to records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from _toolio.errors import InputError
from _toolio.streams.records import Record
from facetools.faces.templates import TEMPLATES
from facetools.photos.photo import Photo

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in a photo.

    Attributes
    ----------
    box
        (x0, y0, x1, y1) in photo pixels, measured between pixels: the photo itself is (0, 0, width, height),
        so x1 - x0 is the width. A box may reach beyond the photo.
    confidence
        O-Net's probability that this is a face, 0 to 1; None for a face that was not found but given: an aligned
        crop, or one that somebody has added by hand.
    landmarks
        float64 [5, 2], or [0, 2] for an aligned crop, which is all face: (x, y) of the left eye, the right eye,
        the tip of the nose, the left and the right corner of the mouth; "left" is left in the
        picture, which is the person's right. Measured at pixel centres: (0, 0) is the middle of the first pixel.
        They too may lie outside the photo.
    """

    box: Box
    confidence: float | None
    landmarks: NDArray[np.float64]

    @property
    def is_crop(self) -> bool:
        """Whether the face is a whole photo: an aligned crop."""
        return len(self.landmarks) == 0

    @property
    def certainty(self) -> float:
        """The confidence of a face that was found."""
        assert self.confidence is not None, "a face that was given, not found"
        return self.confidence

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    def shifted(self, by: tuple[float, float]) -> Face:
        """Return the face moved by (x, y) pixels."""
        x, y = by
        x0, y0, x1, y1 = self.box
        return Face((x0 + x, y0 + y, x1 + x, y1 + y), self.confidence, self.landmarks + by)

    def scaled(self, factors: tuple[float, float]) -> Face:
        """Return the face in a photo that was resized by factors (x, y)."""
        x, y = factors
        x0, y0, x1, y1 = self.box
        # Pixel centres: x becomes (x + 0.5) times the factor, less 0.5.
        return Face((x0 * x, y0 * y, x1 * x, y1 * y), self.confidence, (self.landmarks + 0.5) * factors - 0.5)


FARTHEST_PX = 1e7
"""Largest coordinate, absolute, that a record may have."""

BOX_OF_POINTS = (-1.68, -2.58, 1.68, 1.85)
"""The box (x0, y0, x1, y1) that the finder gives a face, from the mean of its five landmarks and in units of
their root mean square distance from it. Medians over the finder's boxes of the first photos of 30 people of
LFW; left and right are set equal, half of the median width (3.37) each."""


def whole_crop(photo: Photo) -> Face:
    """Return a face that is the whole photo, with no landmarks."""
    height, width = photo.pixels.shape[:2]
    return Face((0.0, 0.0, float(width), float(height)), None, np.empty((0, 2)))


def is_box_alone(record: Record) -> bool:
    """Return whether a record names a face by its box alone, as somebody draws it.

    The record of a crop has a box too, and ``landmarks`` that are null.
    """
    return record.get("box") is not None and "landmarks" not in record


def names_a_face(record: Record) -> bool:
    """Return whether a record stands for one face, which is not searched for."""
    return record.get("landmarks") is not None or is_box_alone(record)


def face_of(record: Record, path: str) -> Face | None:
    """Read the face that a record describes, None if it describes none.

    Without a box it gets the one that the finder would give a face with these landmarks, and with a box alone the
    landmarks of a mean face in it. Its confidence is the finder's, if the record has one.

    Raises
    ------
    InputError
        The landmarks are not five pairs of numbers, or the box not four, of a size that photos have; or they are those
        of a face in another order, or of another place.
    """
    if not names_a_face(record):
        return None
    try:
        if is_box_alone(record):
            box = _pixels(record["box"], (4,))
            landmarks = _landmarks_in(box)
        else:
            landmarks = _pixels(record["landmarks"], (5, 2))
            box = _pixels(record.get("box") or _box_around(landmarks), (4,))
            if other := _other_order(landmarks) or _apart(landmarks, box):
                raise InputError(f"{path}: the record's landmarks or box are not a face's: {other}", kind="bad-record")
        x0, y0, x1, y1 = map(float, box)
        told = record.get("confidence")
        confidence = float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"{path}: the record's landmarks or box are not five points and four numbers, x0 < x1 and y0 < y1",
            kind="bad-record",
        ) from None
    return Face((x0, y0, x1, y1), confidence, landmarks)


def _pixels(value: object, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    array = np.asarray(value, np.float64)
    # NaN is not below the limit either.
    if array.shape != shape or not (abs(array) < FARTHEST_PX).all():
        raise ValueError(f"not numbers of a size that photos have, {shape}")
    return array


def _apart(landmarks: npt.NDArray[np.float64], box: npt.NDArray[np.float64]) -> str | None:
    """Return what is wrong with a box that is not around the landmarks' middle."""
    if (box[:2] < (middle := landmarks.mean(0))).all() and (middle < box[2:]).all():
        return None
    return "the box is not around the landmarks; give its left, top, right and bottom, in pixels: x0, y0, x1, y1"


_ORDER = "the left eye, the right eye, the nose, the left and the right corner of the mouth as seen in the picture"

_SWAPPED = {"eyes are": (1, 0, 2, 3, 4), "corners of the mouth are": (0, 1, 2, 4, 3), "sides are": (1, 0, 2, 4, 3)}
"""Orders that other programs give landmarks, some by the person's own left and right."""

_WORSE = 2.0
"""Landmarks are in another order if a mean face fits that this many times better. The factor is 0.22 at most for
302 faces that the finder found in 296 photos, turned ones too."""


def _other_order(landmarks: npt.NDArray[np.float64]) -> str | None:
    """Return what is wrong with landmarks to which a mean face fits better in another order."""
    fit = _misfit(landmarks)
    for name, order in _SWAPPED.items():
        if fit > _WORSE * _misfit(landmarks[list(order)]):
            return f"the {name} swapped; give {_ORDER}"
    if fit > _WORSE * _misfit(landmarks[:, ::-1]):
        return "the landmarks are mirrored, or (y, x); give each as (x, y)"
    return None


def _misfit(landmarks: npt.NDArray[np.float64]) -> float:
    """Return the sum of squared distances of landmarks from a mean face that is moved, turned and scaled to them."""
    points, mean = (x + 1j * y for x, y in (landmarks.T, np.array(TEMPLATES["arcface-112"][1]).T))
    points, mean = points - points.mean(), mean - mean.mean()
    return float(np.vdot(points, points).real - abs(np.vdot(mean, points)) ** 2 / np.vdot(mean, mean).real)


def _box_around(landmarks: npt.NDArray[np.float64]) -> list[float]:
    x, y = landmarks.mean(0)
    spread = float(np.sqrt(((landmarks - (x, y)) ** 2).sum(1).mean()))
    return [float(start + spread * reach) for start, reach in zip((x, y, x, y), BOX_OF_POINTS, strict=True)]


def _landmarks_in(box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where a face that stands upright has its landmarks, from its box: the inverse of ``BOX_OF_POINTS``."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box, BOX_OF_POINTS
    if not (x0 < x1 and y0 < y1):
        raise ValueError("a box without an area")
    spread = math.sqrt((x1 - x0) / (right - left) * (y1 - y0) / (bottom - top))
    middle = np.array([x0 + x1 - spread * (left + right), y0 + y1 - spread * (top + bottom)]) / 2
    mean = np.array(TEMPLATES["arcface-112"][1])
    mean -= mean.mean(0)
    unit: npt.NDArray[np.float64] = mean / np.sqrt((mean**2).sum(1).mean())
    return middle + spread * unit


def describe_face(face: Face, number: int) -> dict[str, Any]:
    """Return the fields of a record that describe a face: number, box, confidence, landmarks, in photo pixels."""
    return {
        "face": number,
        "box": [round(value, 2) for value in face.box],
        "confidence": None if face.confidence is None else round(face.confidence, 4),
        "landmarks": [[round(float(x), 3), round(float(y), 3)] for x, y in face.landmarks] or None,
    }


LESS_SURE = 0.1
"""A face that is so much less confident than the photo's most confident one is not the largest or the central one: on
photos of groups an arm is found at 0.78, larger than any face. Of portraits MTCNN is 0.93 sure and more."""


def chosen_faces(found: Sequence[Face], shape: Sequence[int], faces: str) -> tuple[int, ...]:
    """Return the indices of the faces that are selected, of those found, largest first."""
    if faces not in ("largest", "central") or not found:
        return tuple(range(len(found)))
    least = max(face.certainty for face in found) - LESS_SURE
    sure = [number for number, face in enumerate(found) if face.certainty >= least]
    if faces == "largest":
        return (sure[0],)
    height, width = shape[:2]

    def off_centre(number: int) -> float:
        x0, y0, x1, y1 = found[number].box
        return math.hypot(x0 + x1 - width, y0 + y1 - height)

    return (min(sure, key=off_centre),)
