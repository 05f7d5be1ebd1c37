"""From inputs to photos with faces: what every command on photos begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from _toolio.errors import InputError
from _toolio.journal import sha256_of
from _toolio.paths import Item
from _toolio.records import Record
from facetools.faces.finder import Face, Finder
from facetools.photos import Photo, decode_photo

if TYPE_CHECKING:
    import torch


FARTHEST_PX = 1e7
"""Farther from a photo's corner no record places a face."""


@dataclass(frozen=True, slots=True)
class Intake:
    """One input, read and searched for faces.

    Attributes
    ----------
    item
        The input.
    data
        The file's bytes.
    photo, faces
        What was decoded and found; ``faces`` is empty where there is none.
    numbers
        The number of each face in its photo, from 0.
    """

    item: Item
    data: bytes
    photo: Photo
    faces: tuple[Face, ...]
    numbers: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Give the sha256 of the file."""
        return sha256_of(self.data)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One input that cannot be used.

    Attributes
    ----------
    item
        The input.
    error
        Why; None where an earlier command has already said so in the item's record.
    """

    item: Item
    error: InputError | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One input that an earlier run has finished.

    Attributes
    ----------
    item
        The input.
    records
        What that run printed for it.
    """

    item: Item
    records: Sequence[Record]


def take_in(
    items: Iterable[Item],
    device: torch.device,
    *,
    faces: str = "all",
    min_face_px: float | None = None,
    finished: Callable[[Item, bytes], Sequence[Record] | None] | None = None,
) -> Iterator[Intake | Refusal | Finished]:
    """Read, decode and find faces, one input after the other.

    Parameters
    ----------
    items
        Photos, or records that name them. A record with ``landmarks`` stands for that one face, which is
        then not searched for again.
    device
        Where the finder runs; it is loaded when the first photo needs it.
    faces
        ``all``, or ``largest`` for the one with the largest box.
    min_face_px
        Smallest side of a face that is searched for, pixels; None lets the finder choose by the photo's size.
    finished
        Gives the records of an input that need not be done again.
    """
    finder: Finder | None = None
    for item in items:
        if item.error is None and _is_finished(item.record):
            yield Refusal(item, None)
            continue
        try:
            data = item.read()
            if finished is not None and (records := finished(item, data)) is not None:
                yield Finished(item, records)
                continue
            photo = decode_photo(data, item.path)
            named = face_of(item.record, item.path)
        except InputError as error:
            yield Refusal(item, error)
            continue
        if named is not None:
            number = item.record.get("face")
            yield Intake(item, data, photo, (named,), (number if isinstance(number, int) else 0,))
            continue
        finder = finder or Finder(device)
        found = finder.find([photo.pixels], min_face_px=min_face_px)[0]
        chosen = tuple(found[:1] if faces == "largest" else found)
        yield Intake(item, data, photo, chosen, tuple(range(len(chosen))))


def _is_finished(record: Record) -> bool:
    """Tell a record that is the end of its photo's story: an error, or no face and so no file."""
    return bool(record) and ("error" in record or not record.get("path"))


def face_of(record: Record, path: str) -> Face | None:
    """Read the face that a record describes, None if it describes none.

    Raises
    ------
    InputError
        The landmarks are not five pairs of numbers, or the box not four, of a size that photos have.
    """
    if record.get("landmarks") is None:
        return None
    try:
        landmarks = np.asarray(record["landmarks"], np.float64)
        box = np.asarray(record.get("box") or (*landmarks.min(0), *landmarks.max(0)), np.float64)
        told = record.get("confidence")
        confidence = float(told) if isinstance(told, int | float) else 1.0
    except (ValueError, TypeError, OverflowError):
        landmarks = box = np.full(1, np.nan)
    # NaN is not below the limit either.
    near = (abs(landmarks) < FARTHEST_PX).all() and (abs(box) < FARTHEST_PX).all()
    if landmarks.shape != (5, 2) or box.shape != (4,) or not near:
        raise InputError(
            f"{path}: the record's landmarks or box are not five points and four numbers", kind="bad-record"
        )
    x0, y0, x1, y1 = map(float, box)
    return Face((x0, y0, x1, y1), confidence, landmarks)


def describe_face(face: Face, number: int) -> dict[str, Any]:
    """Give the fields of a record that describe a face: number, box, confidence, landmarks, in photo pixels."""
    return {
        "face": number,
        "box": [round(value, 2) for value in face.box],
        "confidence": round(face.confidence, 4),
        "landmarks": [[round(float(x), 3), round(float(y), 3)] for x, y in face.landmarks],
    }
