"""Read inputs into decoded photos with detected faces."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from _toolio.compute.memory import Batch, is_out_of_memory
from _toolio.compute.threads import ordered
from _toolio.errors import InputError
from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import Item
from _toolio.streams.records import Record
from facetools.added_faces import AddedFaces, join_faces
from facetools.faces.face import Face, face_of, is_box_alone, names_a_face, whole_crop
from facetools.faces.finder import Finder
from facetools.faces.search import FaceSearch
from facetools.photos.codec import decode_photo, no_room
from facetools.photos.photo import Photo

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


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

    def record_of(self, index: int) -> Record:
        """Return the record whose other fields pass through to that of a face, by the face's index in ``faces``."""
        return self.named[index] if self.named else self.item.record


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
    finished: Callable[[Item, Sequence[Record], bytes, Sequence[Record]], Sequence[Record] | None] | None = None,
    added: AddedFaces | None = None,
) -> Iterator[Intake | Refusal | Finished]:
    """Read, decode and find faces, one input after the other.

    Parameters
    ----------
    items
        Photos, or records that name them. A record with ``landmarks``, or with a ``box`` and without that field, stands
        for that one face, which is then not searched for; such records that follow each other and name one photo
        give one intake.
        Only they wait for the next item: any other is worked on as soon as it comes.
    device
        Where the finder runs; it is loaded when the first photo needs it, and looks at one photo at a time.
    faces
        How faces are searched for, and which are taken: a `FaceSearch`, or the name of its ``faces`` alone.
    finished
        Returns the records of an input that need not be done again, or None, from the input, the records that name
        its faces, the file's bytes, and the records of faces that are added to those found.
    added
        Faces that are taken beside those that are found or named.
    """
    reader = _Reader(device, FaceSearch.of(faces), finished, added)
    for group in _by_photo(items):
        yield from reader.read([group])


def work_on(
    function: Callable[[Intake], R],
    items: Iterable[Item],
    device: torch.device,
    *,
    workers: int,
    batch: Batch,
    faces: FaceSearch | str = "all",
) -> Iterator[tuple[Intake | Refusal | Finished, R | None]]:
    """Read, decode and find faces as ``take_in`` does, and apply a function, several inputs at a time.

    Parameters
    ----------
    function
        Applied to each intake; must be safe to call from several threads.
    items, device, faces
        As ``take_in`` takes them.
    workers
        Threads.
    batch
        Photos that are searched for faces together; 1 on a CPU, where each is searched by itself. Fewer where memory
        runs out.

    Yields
    ------
    tuple
        An input and what the function made of it, None where it could not be used; in the order of the items.
    """
    reader = _Reader(device, FaceSearch.of(faces), at_once=batch)

    def apply(each: Intake | Refusal | Finished) -> list[tuple[Intake | Refusal | Finished, R | None]]:
        if not isinstance(each, Intake):
            return [(each, None)]
        try:
            return [(each, function(each))]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            records = [replace(each.item, record=record) for record in each.named] or [each.item]
            return [(Refusal(item, no_room(item.path)), None) for item in records]

    def work(groups: Sequence[list[Item]]) -> list[tuple[Intake | Refusal | Finished, R | None]]:
        return [result for each in reader.read(groups) for result in apply(each)]

    return chain.from_iterable(ordered(work, in_groups(_by_photo(items), batch.size), workers=workers))


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
        faces: FaceSearch,
        finished: Callable[[Item, Sequence[Record], bytes, Sequence[Record]], Sequence[Record] | None] | None = None,
        added: AddedFaces | None = None,
        at_once: Batch | None = None,
    ) -> None:
        self._device, self._faces, self._finished = device, faces, finished
        self._added, self._at_once = added or AddedFaces(), at_once or Batch(1)
        self._finder: Finder | None = None
        self._loading = Lock()

    def read(self, groups: Sequence[list[Item]]) -> list[Intake | Refusal | Finished]:
        """Read photos, and find the faces of those whose records do not name them, in one go."""
        results = [each for group in groups for each in self._read(group)]
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

    def _read(self, group: list[Item]) -> Iterator[Any]:
        """Read one photo, named by one item or by the records of its faces."""
        item = group[0]
        if item.error is None and _is_finished(item.record):
            yield Refusal(item, None)
            return
        added = self._added.of(item) if item.error is None else ()
        if added and names_a_face(item.record):
            group, added = [*group, *(Item(item.path, item.relative, record) for record in added)], ()
        usable, named, refused = _named_faces(group)
        records = tuple(each.record for each in usable) if named else ()
        try:
            if usable:
                item, data = usable[0], usable[0].read()
                if self._finished is not None and (done := self._finished(item, records, data, added)) is not None:
                    yield Finished(item, done)
                elif not self._faces.is_needed:
                    yield Intake(
                        item, data, photo := decode_photo(data, item.path), (whole_crop(photo),), (0,), records[:1]
                    )
                elif named:
                    photo = decode_photo(data, item.path)
                    faces = tuple(self._place(photo, record, item.path) for record in records)
                    yield Intake(item, data, photo, faces, _numbers(records), records)
                else:
                    yield _Unsearched(item, data, decode_photo(data, item.path), added)
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
    return item.error is None and not _is_finished(item.record) and names_a_face(item.record)


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


def _is_finished(record: Record) -> bool:
    """Return whether a record needs no more work: it has an error, or no face and so no file."""
    return bool(record) and ("error" in record or not record.get("path"))
