"""Read inputs into decoded photos with detected faces."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from _toolio.compute.threads import ordered
from _toolio.errors import InputError
from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import Item
from _toolio.streams.records import Record
from facetools.faces.face import Face, face_of, whole_crop
from facetools.faces.finder import THRESHOLDS, Finder, default_min_face_px
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Photo

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

UNSEARCHED = ("crop", "whole-photo")
"""Values of ``faces`` with which ``take_in`` does not search for faces."""

LESS_SURE = 0.1
"""A face that is so much less confident than the photo's most confident one is not the largest or the central one: on
photos of groups an arm is found at 0.78, larger than any face. Of portraits MTCNN is 0.93 sure and more."""


@dataclass(frozen=True, slots=True)
class Intake:
    """One input, decoded and searched for faces.

    Attributes
    ----------
    item
        The input; the first of several that name faces of one photo.
    data
        The file's bytes.
    photo, faces
        What was decoded and found; ``faces`` is empty where there is none.
    numbers
        The number of each face in its photo, from 0.
    named
        The records that named the faces, one a face; empty where the photo was searched for faces.
    searched_px
        Side of the smallest face that was searched for, pixels; None where none was searched for.
    """

    item: Item
    data: bytes
    photo: Photo
    faces: tuple[Face, ...]
    numbers: tuple[int, ...]
    named: tuple[Record, ...] = ()
    searched_px: float | None = None

    @property
    def no_face(self) -> str:
        """The reason of a photo that has no face: how small the faces were that were searched for."""
        return "no face found" if self.searched_px is None else no_face_of(self.searched_px)

    @property
    def digest(self) -> str:
        """The sha256 of the file."""
        return sha256_of(self.data)

    def record_of(self, index: int) -> Record:
        """Return the record whose other fields pass through to that of a face, by the face's index in ``faces``."""
        return self.named[index] if self.named else self.item.record


@dataclass(frozen=True, slots=True)
class _Unsearched:
    """One decoded input whose faces are not yet detected."""

    item: Item
    data: bytes
    photo: Photo


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


def no_face_of(least_px: float) -> str:
    """Return the reason of a photo in which no face was found, from the smallest side that was searched for."""
    return f"no face of {math.ceil(least_px)} pixels or more found"


def take_in(
    items: Iterable[Item],
    device: torch.device,
    *,
    faces: str = "all",
    min_face_px: float | None = None,
    min_confidence: float | None = None,
    rotations: bool = False,
    finished: Callable[[Item, Sequence[Record], bytes], Sequence[Record] | None] | None = None,
) -> Iterator[Intake | Refusal | Finished]:
    """Read, decode and find faces, one input after the other.

    Parameters
    ----------
    items
        Photos, or records that name them. A record with ``landmarks`` stands for that one face, which is
        then not searched for again; such records that follow each other and name one photo give one intake.
        Only they wait for the next item: any other is worked on as soon as it comes.
    device
        Where the finder runs; it is loaded when the first photo needs it, and looks at one photo at a time.
    faces
        ``all``, or one of the faces that are searched for: ``largest``, that with the largest box, or ``central``,
        that whose box is nearest the photo's middle, both of those that are at most ``LESS_SURE`` less confident than
        the photo's most confident; ``crop`` takes each photo for an aligned crop, which is all face; ``whole-photo``
        takes it as it is, whatever it shows.
    min_face_px
        Smallest side of a face that is searched for, pixels; None lets the finder choose by the photo's size.
    min_confidence
        Least confidence of a face that counts, 0 to 1; None lets the finder choose.
    rotations
        Search every photo rotated by 90, 180 and 270 degrees too, and not only one without a confident face.
    finished
        Returns the records of an input that need not be done again, or None, from the input, the records that name
        its faces, and the file's bytes.
    """
    reader = _Reader(device, faces, min_face_px, min_confidence, rotations, finished)
    for group in _by_photo(items):
        yield from reader.read([group])


def work_on(
    function: Callable[[Intake], R],
    items: Iterable[Item],
    device: torch.device,
    *,
    workers: int,
    batch: int,
    faces: str = "all",
    min_face_px: float | None = None,
    min_confidence: float | None = None,
    rotations: bool = False,
) -> Iterator[tuple[Intake | Refusal | Finished, R | None]]:
    """Read, decode and find faces as ``take_in`` does, and apply a function, several inputs at a time.

    Parameters
    ----------
    function
        Applied to each intake; must be safe to call from several threads.
    items, device, faces, min_face_px, min_confidence, rotations
        As ``take_in`` takes them.
    workers
        Threads.
    batch
        Photos that are searched for faces together; 1 on a CPU, where each is searched by itself.

    Yields
    ------
    tuple
        An input and what the function made of it, None where it could not be used; in the order of the items.
    """
    reader = _Reader(device, faces, min_face_px, min_confidence, rotations)

    def work(groups: Sequence[list[Item]]) -> list[tuple[Intake | Refusal | Finished, R | None]]:
        return [(each, function(each) if isinstance(each, Intake) else None) for each in reader.read(groups)]

    return chain.from_iterable(ordered(work, in_groups(_by_photo(items), batch), workers=workers))


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` consecutive items; the last may be shorter."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


class _Reader:
    """Read groups of records, of one photo each, into intakes; the parameters are those of ``take_in``."""

    def __init__(
        self,
        device: torch.device,
        faces: str,
        min_face_px: float | None,
        min_confidence: float | None,
        rotations: bool,
        finished: Callable[[Item, Sequence[Record], bytes], Sequence[Record] | None] | None = None,
    ) -> None:
        self._device, self._faces, self._min_face_px, self._finished = device, faces, min_face_px, finished
        self._finding: dict[str, Any] = {"rotations": rotations}
        if min_confidence is not None:
            self._finding["thresholds"] = (*THRESHOLDS[:2], min_confidence)
        self._finder: Finder | None = None
        self._loading = Lock()

    def read(self, groups: Sequence[list[Item]]) -> list[Intake | Refusal | Finished]:
        """Read photos, and find the faces of those whose records do not name them, in one go."""
        results = [each for group in groups for each in self._read(group)]
        wanted = [index for index, each in enumerate(results) if isinstance(each, _Unsearched)]
        found = self._find([results[index].photo for index in wanted]) if wanted else []
        for index, faces in zip(wanted, found, strict=True):
            item, data, photo = results[index].item, results[index].data, results[index].photo
            numbers = _choose(faces, photo, self._faces)
            least = self._min_face_px or default_min_face_px(*photo.pixels.shape[:2])
            chosen = tuple(faces[n] for n in numbers)
            results[index] = Intake(item, data, photo, chosen, numbers, searched_px=least)
        return results

    def _find(self, photos: Sequence[Photo]) -> list[list[Face]]:
        with self._loading:
            self._finder = self._finder or Finder(self._device, **self._finding)
        return self._finder.find([photo.pixels for photo in photos], min_face_px=self._min_face_px)

    def _read(self, group: list[Item]) -> Iterator[Any]:
        """Read one photo, named by one item or by the records of its faces."""
        item = group[0]
        if item.error is None and _is_finished(item.record):
            yield Refusal(item, None)
            return
        usable, named, refused = _named_faces(group)
        records = tuple(each.record for each in usable) if named else ()
        try:
            if usable:
                item, data = usable[0], usable[0].read()
                if self._finished is not None and (done := self._finished(item, records, data)) is not None:
                    yield Finished(item, done)
                elif self._faces in UNSEARCHED:
                    yield Intake(
                        item, data, photo := decode_photo(data, item.path), (whole_crop(photo),), (0,), records[:1]
                    )
                elif named:
                    yield Intake(item, data, decode_photo(data, item.path), named, _numbers(records), records)
                else:
                    yield _Unsearched(item, data, decode_photo(data, item.path))
        except InputError as error:
            yield from (Refusal(each, error) for each in usable)
        yield from refused


def _choose(found: Sequence[Face], photo: Photo, faces: str) -> tuple[int, ...]:
    """Return the indices of the faces that are selected, of those found, largest first."""
    if faces not in ("largest", "central") or not found:
        return tuple(range(len(found)))
    least = max(face.confidence for face in found) - LESS_SURE
    sure = [number for number, face in enumerate(found) if face.confidence >= least]
    if faces == "largest":
        return (sure[0],)
    height, width = photo.pixels.shape[:2]

    def off_centre(number: int) -> float:
        x0, y0, x1, y1 = found[number].box
        return math.hypot(x0 + x1 - width, y0 + y1 - height)

    return (min(sure, key=off_centre),)


def _by_photo(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Group consecutive records with landmarks of one photo; yield everything else by itself, at once."""
    group: list[Item] = []
    for item in items:
        if group and not _is_another_face(group, item):
            yield group
            group = []
        if _names_a_face(item):
            group.append(item)
        else:
            yield [item]
    if group:
        yield group


def _names_a_face(item: Item) -> bool:
    return item.error is None and not _is_finished(item.record) and item.record.get("landmarks") is not None


def _is_another_face(group: Sequence[Item], item: Item) -> bool:
    """Return whether an item names another face of the group's photo, and not the same again."""
    if not _names_a_face(item) or (item.path, item.relative) != (group[0].path, group[0].relative):
        return False
    number, landmarks = item.record.get("face"), item.record["landmarks"]
    return not any(
        (number is not None and record.get("face") == number) or record["landmarks"] == landmarks
        for record in (each.record for each in group)
    )


def _named_faces(group: Sequence[Item]) -> tuple[list[Item], tuple[Face, ...], list[Refusal]]:
    """Read the faces that one photo's records name: the usable items, their faces, and what to refuse."""
    usable, faces, refused = [], [], []
    for item in group:
        try:
            face = face_of(item.record, item.path) if item.error is None else None
        except InputError as error:
            refused.append(Refusal(item, error))
            continue
        usable.append(item)
        faces += [face] if face is not None else []
    return usable, tuple(faces), refused


def _numbers(records: Sequence[Record]) -> tuple[int, ...]:
    """Return each face's number: that of its record, or the first that is free."""
    given = [record.get("face") for record in records]
    free = (number for number in count() if number not in given)
    return tuple(number if isinstance(number, int) else next(free) for number in given)


def input_digest(item: Item, named: Sequence[Record], data: bytes) -> str:
    """Return the sha256 of what an input's outputs depend on: file, path below the output, faces named."""
    faces = [[record.get(key) for key in ("face", "landmarks", "box", "confidence")] for record in named]
    return sha256_of(json.dumps([sha256_of(data), item.relative, faces]).encode())


def _is_finished(record: Record) -> bool:
    """Return whether a record needs no more work: it has an error, or no face and so no file."""
    return bool(record) and ("error" in record or not record.get("path"))
