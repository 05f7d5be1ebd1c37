"""Read inputs into decoded photos with detected faces."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from threading import Lock
from typing import TYPE_CHECKING, Any

from _toolio.compute.memory import Batch, is_out_of_memory
from _toolio.errors import InputError
from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import Item
from _toolio.streams.records import Record, has_failed
from facetools.added_faces import AddedFaces, join_faces
from facetools.faces.face import Face, face_of, is_box_alone, names_a_face, whole_crop
from facetools.faces.finder import Finder
from facetools.faces.search import FaceSearch
from facetools.photos.codec import decode_photo, no_room
from facetools.photos.photo import Photo

if TYPE_CHECKING:
    import torch

FinishedBefore = Callable[[Item, Sequence[Record], Callable[[], bytes], Sequence[Record]], Sequence[Record] | None]
"""Returns the records of an input that an earlier run has finished, or None: ``PhotoFolder.finished``.

It is called with the input, the records that name its faces, what reads the file, and the records of faces that are
added to those found.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One photo to work on, as its inputs name it.

    Attributes
    ----------
    items
        The input; several where records name faces of one photo.
    added
        Records of faces that are taken beside those found.
    """

    items: tuple[Item, ...]
    added: tuple[Record, ...] = ()

    def __str__(self) -> str:
        return self.items[0].path


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
    added
        Records of the faces that were added by hand to those that were found; ``named`` has those that were added to
        others that records name.
    others
        Number and face of each that was found and not chosen.
    """

    item: Item
    data: bytes
    photo: Photo
    faces: tuple[Face, ...]
    numbers: tuple[int, ...]
    named: tuple[Record, ...] = ()
    searched_px: float | None = None
    added: tuple[Record, ...] = ()
    others: tuple[tuple[int, Face], ...] = ()

    @property
    def no_face(self) -> str:
        """The reason of a photo that has no face: how small the faces were that were searched for."""
        return "no face found" if self.searched_px is None else no_face_of(self.searched_px)

    @property
    def digest(self) -> str:
        """The sha256 of the file."""
        return sha256_of(self.data)


@dataclass(frozen=True, slots=True)
class _Unsearched:
    """One decoded input whose faces are not yet detected."""

    item: Item
    data: bytes
    photo: Photo
    added: tuple[Record, ...] = ()


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
    faces: FaceSearch | str = "all",
    added: AddedFaces | None = None,
) -> Iterator[Intake | Refusal | Finished]:
    """Read, decode and find faces, one input after the other.

    Parameters
    ----------
    items
        As `requests_of` takes them.
    device
        Where the finder runs; it is loaded when the first photo needs it, and looks at one photo at a time.
    faces
        How faces are searched for, and which are taken: a `FaceSearch`, or the name of its ``faces`` alone.
    added
        Faces that are taken beside those that are found or named.
    """
    reader = Reader(device, FaceSearch.of(faces))
    for request in requests_of(items, added=added):
        yield from reader.read([request])


def requests_of(items: Iterable[Item], *, added: AddedFaces | None = None) -> Iterator[Request]:
    """Yield the photos that items name.

    Parameters
    ----------
    items
        Photos, or records that name them. A record with ``landmarks``, or with a ``box`` and without that field, stands
        for that one face, which is then not searched for; such records that follow each other and name one photo
        give one request. Only they wait for the next item: any other is yielded as soon as it comes.
    added
        Faces that are taken beside those that are found or named.
    """
    added = added or AddedFaces()
    for group in _by_photo(items):
        item = group[0]
        more = () if _needs_no_work(item) else added.of(item)
        if more and names_a_face(item.record):
            group, more = [*group, *(replace(item, record=record) for record in more)], ()
        yield Request(tuple(group), more)


def unfinished(requests: Iterable[Request], finished: FinishedBefore) -> Iterator[Request | Finished]:
    """Yield the requests that an earlier run has not finished, and of the others its records."""
    for request in requests:
        usable, named, refused = _named_faces(request.items)
        records = tuple(each.record for each in usable) if named else ()
        done = None
        if usable and not _needs_no_work(usable[0]):
            # Where it cannot be read, whoever works on it says so.
            with suppress(InputError):
                done = finished(usable[0], records, usable[0].read, request.added)
        if done is None:
            yield request
            continue
        yield Finished(usable[0], done)
        if refused:
            yield Request(tuple(each.item for each in refused))


class Reader:
    """Read photos and find their faces; safe to call from several threads.

    Parameters
    ----------
    device, faces
        As ``take_in`` takes them.
    at_once
        Photos that are searched for faces together, fewer where memory runs out; 1 by default.
    """

    def __init__(self, device: torch.device, faces: FaceSearch, at_once: Batch | None = None) -> None:
        self._device, self._faces, self._at_once = device, faces, at_once or Batch(1)
        self._finder: Finder | None = None
        self._loading = Lock()

    def read(self, requests: Sequence[Request | Finished]) -> list[Intake | Refusal | Finished]:
        """Read photos, and find the faces of those whose records do not name them, in one go."""
        results = [each for request in requests for each in self._read(request)]
        wanted = [index for index, each in enumerate(results) if isinstance(each, _Unsearched)]
        found = chain.from_iterable(self._at_once.map(self._search, [results[index] for index in wanted]))
        for index, searched in zip(wanted, found, strict=True):
            results[index] = searched
        return results

    def _search(self, unsearched: Sequence[_Unsearched]) -> list[Intake | Refusal]:
        """Find the faces of photos; refuse a photo that memory does not suffice for."""
        try:
            found = self._find([each.photo for each in unsearched])
            return [self._searched(each, faces) for each, faces in zip(unsearched, found, strict=True)]
        except (RuntimeError, MemoryError) as error:
            if len(unsearched) > 1 or not is_out_of_memory(error):
                raise
            item = unsearched[0].item
            return [Refusal(item, no_room(item.path))]

    def _searched(self, each: _Unsearched, found: Sequence[Face]) -> Intake:
        """Join the faces that were found in a photo with those added to it, and choose."""
        photo, item = each.photo, each.item
        added = [self._place(photo, record, item.path) for record in each.added]
        faces, places = join_faces(found, added)
        numbers = tuple(sorted({*self._faces.choose(found, photo.pixels.shape), *places}))
        least = self._faces.least_px(photo.pixels.shape)
        others = tuple((number, face) for number, face in enumerate(faces) if number not in numbers)
        chosen = tuple(faces[number] for number in numbers)
        return Intake(item, each.data, photo, chosen, numbers, searched_px=least, added=each.added, others=others)

    def _place(self, photo: Photo, record: Record, path: str) -> Face:
        """Return the face that a record names, in a box alone with the landmarks that O-Net sees there."""
        face = face_of(record, path)
        assert face is not None, "read_added_faces"
        if is_box_alone(record) and (points := self._the_finder().place_landmarks(photo.pixels, face.box)) is not None:
            return replace(face, landmarks=points)
        return face

    def _the_finder(self) -> Finder:
        with self._loading:
            self._finder = self._finder or self._faces.open_finder(self._device)
        return self._finder

    def _find(self, photos: Sequence[Photo]) -> list[list[Face]]:
        return self._the_finder().find([photo.pixels for photo in photos], min_face_px=self._faces.min_face_px)

    def _read(self, request: Request | Finished) -> Iterator[Any]:
        """Read one photo, named by one item or by the records of its faces; what is finished passes."""
        if isinstance(request, Finished):
            yield request
            return
        if (item := request.items[0]).error is None and _needs_no_work(item):
            yield Refusal(item, None)
            return
        usable, named, refused = _named_faces(request.items)
        records = tuple(each.record for each in usable) if named else ()
        try:
            if usable:
                item, data = usable[0], usable[0].read()
                photo = decode_photo(data, item.path)
                if not self._faces.is_needed:
                    yield Intake(item, data, photo, (whole_crop(photo),), (0,), records[:1])
                elif named:
                    faces = tuple(self._place(photo, record, item.path) for record in records)
                    yield Intake(item, data, photo, faces, _numbers(records), records)
                else:
                    yield _Unsearched(item, data, photo, request.added)
        except InputError as error:
            yield from (Refusal(each, error) for each in usable)
        yield from refused


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
    return not _needs_no_work(item) and names_a_face(item.record)


def _is_another_face(group: Sequence[Item], item: Item) -> bool:
    """Return whether an item names another face of the group's photo, and not the same again."""
    if not _names_a_face(item) or (item.path, item.relative) != (group[0].path, group[0].relative):
        return False
    number, place = item.record.get("face"), _place_of(item.record)
    return not any(
        (number is not None and record.get("face") == number) or _place_of(record) == place
        for record in (each.record for each in group)
    )


def _place_of(record: Record) -> object:
    return record["landmarks"] if record.get("landmarks") is not None else record["box"]


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


def input_digest(item: Item, named: Sequence[Record], data: bytes, added: Sequence[Record] = ()) -> str:
    """Return the sha256 of what an input's outputs depend on: file, path below the output, faces named or added."""
    faces, more = (
        [[record.get(key) for key in ("face", "landmarks", "box", "confidence")] for record in records]
        for records in (named, added)
    )
    return sha256_of(json.dumps([sha256_of(data), item.relative, faces, *([more] if more else [])]).encode())


def _needs_no_work(item: Item) -> bool:
    """Return whether an input cannot be used, or its record has an error, or no face and so no file."""
    record = item.record
    return item.error is not None or (bool(record) and (has_failed(record) or not record.get("path")))
