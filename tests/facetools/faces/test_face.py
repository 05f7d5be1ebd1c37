"""Faces: read from records and written to them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import InputError
from facetools.faces.face import Face, describe_face, face_of, whole_crop
from facetools.faces.finder import Finder
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Photo

CPU = torch.device("cpu")
POINTS = [[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]


def test_a_record_with_landmarks_is_that_face() -> None:
    record = {"landmarks": POINTS, "box": [1, 2, 40, 41], "confidence": 0.5}
    face = face_of(record, "x")
    assert face is not None
    assert (face.box, face.confidence, face.landmarks.tolist()) == ((1, 2, 40, 41), 0.5, POINTS)
    bare = face_of({"landmarks": POINTS, "box": None, "confidence": "high"}, "x")
    assert bare is not None
    assert bare.confidence is None, "nobody has said how sure it is"
    assert face_of({"path": "x"}, "x") is None
    assert face_of({"landmarks": None}, "x") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"landmarks": []},
        {"landmarks": 3},
        {"landmarks": "text"},
        {"landmarks": {"a": 1}},
        {"landmarks": POINTS[:4]},
        {"landmarks": [*POINTS[:4], [1]]},
        {"landmarks": [*POINTS[:4], [1, math.nan]]},
        {"landmarks": [*POINTS[:4], [1, None]]},
        {"landmarks": [*POINTS[:4], [1, 10**400]]},
        {"landmarks": [*POINTS[:4], [1, 1e300]]},
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, math.inf]},
        {"box": [math.nan, 2, 3, 4]},
        {"box": [-1e308, 0, 1e308, 1]},
        {"box": "text"},
        {"confidence": 10**400},
    ],
)
def test_a_face_that_cannot_be(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^x\.jpg: the record's landmarks or box") as caught:
        face_of({"landmarks": POINTS, "box": [1, 2, 40, 41], **changed}, "x.jpg")
    assert caught.value.kind == "bad-record"


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((1, 0, 2, 3, 4), "the eyes are swapped; give the left eye, the right eye, the nose"),
        ((0, 1, 2, 4, 3), "the corners of the mouth are swapped"),
        ((1, 0, 2, 4, 3), "the sides are swapped"),
    ],
)
def test_landmarks_in_another_order_are_refused(
    order: tuple[int, ...], words: str, real_people: dict[str, list[bytes]]
) -> None:
    """As programs give them that name the person's own left; a chip cut by them is upside down."""
    photos = [decode_photo(photos[0], name).pixels for name, photos in real_people.items()]
    for face, *_ in Finder(CPU).find(photos):
        for turns in range(4):  # a photo that lies on its side is no other order
            points = face.landmarks @ np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turns)
            assert face_of({"landmarks": points.tolist()}, "x") is not None
            with pytest.raises(InputError, match=f"x: the record's landmarks or box are not a face's: {words}"):
                face_of({"landmarks": points[list(order)].tolist()}, "x")
            with pytest.raises(InputError, match=r"the landmarks are mirrored, or \(y, x\)|swapped"):
                face_of({"landmarks": points[:, ::-1].tolist()}, "x")


def test_a_box_elsewhere_is_refused() -> None:
    """As x, y, width and height, or top, right, bottom and left, are."""
    points = (np.array(POINTS) + 100).tolist()
    assert face_of({"landmarks": points, "box": [105, 102, 135, 140]}, "x") is not None
    for box in ([105, 102, 30, 38], [102, 135, 140, 105]):
        with pytest.raises(InputError, match="the box is not around the landmarks; give its left, top, right"):
            face_of({"landmarks": points, "box": box}, "x")


def test_a_face_without_box_gets_the_one_that_the_finder_would_give(real_people: dict[str, list[bytes]]) -> None:
    # Other photos than those that the box was measured on.
    photos = [decode_photo(photos[1], name).pixels for name, photos in real_people.items()]
    overlaps = []
    for faces in Finder(CPU).find(photos):
        face = face_of({"landmarks": faces[0].landmarks.tolist()}, "x")
        assert face is not None
        x0, y0, x1, y1 = (pick(a, b) for pick, a, b in zip((max, max, min, min), face.box, faces[0].box, strict=True))
        common = (x1 - x0) * (y1 - y0)
        overlaps.append(common / (face.area + faces[0].area - common))
    assert sum(overlaps) / len(overlaps) > 0.75
    assert min(overlaps) > 0.6


def test_a_face_written_to_a_record_comes_back() -> None:
    face = Face((1.234, 2, 30, 40.5), 0.98765, np.array(POINTS) + 0.0004)
    record = describe_face(face, 3)
    assert record == {"face": 3, "box": [1.23, 2, 30, 40.5], "confidence": 0.9877, "landmarks": POINTS}
    back = face_of(record, "x")
    assert back is not None
    assert back.landmarks.tolist() == POINTS


def test_a_crop_is_all_face() -> None:
    crop = whole_crop(Photo(np.zeros((20, 30, 3), np.uint8), "PNG"))
    assert crop.is_crop
    assert (crop.box, crop.area) == ((0, 0, 30, 20), 600)
    assert describe_face(crop, 0) == {"face": 0, "box": [0, 0, 30, 20], "confidence": None, "landmarks": None}


def test_a_scaled_photo_has_the_face_scaled() -> None:
    face = Face((0, 0, 40, 40), 1.0, np.array(POINTS))
    twice = face.scaled((2, 0.5))
    assert twice.box == (0, 0, 80, 20)
    # The middle of the first pixel, (0, 0), lies half a pixel from the edge before and after.
    assert Face((0, 0, 1, 1), 1.0, np.zeros((5, 2))).scaled((2, 0.5)).landmarks[0].tolist() == [0.5, -0.25]
    back = twice.scaled((0.5, 2))
    assert back.landmarks == pytest.approx(face.landmarks)


def test_a_box_alone_is_a_face_by_hand() -> None:
    face = face_of({"path": "x", "box": [100, 200, 184, 310]}, "x")
    assert face is not None
    assert (face.confidence, face.is_crop, face.landmarks.shape) == (None, False, (5, 2))
    # The finder's box of these landmarks is the one that was drawn, about its middle and in its size.
    again = face_of({"landmarks": face.landmarks.tolist()}, "x")
    assert again is not None
    (x0, y0, x1, y1), (a0, b0, a1, b1) = face.box, again.box
    assert (x0 + x1, y0 + y1) == pytest.approx((a0 + a1, b0 + b1))
    assert (x1 - x0) * (y1 - y0) == pytest.approx((a1 - a0) * (b1 - b0))
    assert describe_face(face, 0)["confidence"] is None
    # The record of a crop has a box, and landmarks that are null.
    assert face_of({"path": "x", "box": [0, 0, 9, 9], "landmarks": None}, "x") is None
    for box in ([3, 2, 1, 4], [1, 2, 1, 4], [1, 2, 3], ["a", 2, 3, 4], [0, 0, 1e9, 4]):
        with pytest.raises(InputError, match="x0 < x1"):
            face_of({"path": "x", "box": box}, "x")


@pytest.mark.parametrize("told", [None, "high", True])
def test_a_confidence_that_nobody_has_measured_is_null(told: object) -> None:
    face = face_of({"landmarks": POINTS, "confidence": told}, "x")
    assert face is not None
    assert describe_face(face, 0)["confidence"] is None
