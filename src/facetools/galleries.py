"""Faces of known people: embeddings from records of ``facetools embed``, from its files, or straight from photos."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.inputs import STDIN, Item
from _toolio.streams.records import Record, read_records
from _toolio.tensors.safetensors_files import open_safetensors, read_metadata
from facetools.matching import without_suffix
from facetools.people import folded, folders_of, person_of

if TYPE_CHECKING:
    from facetools.extractors import Extractor
    from facetools.intake import Intake
    from facetools.preprocessing import Preprocess

EMBEDDINGS = "facetools.embed/"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photos of people, one face each, as one extractor embeds them.

    Attributes
    ----------
    extractor, digest
        Its name and the sha256 of its weights.
    distance
        What its embeddings are compared with: ``cosine`` or ``euclidean``.
    items
        The photos: their paths, and where they lie below their input.
    embeddings
        float32 [n, D]; or the chips, see ``of_chips``.
    people
        Whose photos the extractor was trained on, where its file says so.
    chips
        uint8 [n, height, width, 3], the faces as the extractor sees them, where somebody asked for them.
    sha256s
        Of the photos' bytes, where they are known of all.
    faceless
        Photos in which no face was found.
    """

    extractor: str
    digest: str
    distance: str
    items: tuple[Item, ...]
    embeddings: npt.NDArray[Any]
    people: tuple[str, ...] = ()
    chips: npt.NDArray[np.uint8] | None = None
    sha256s: tuple[str, ...] = ()
    faceless: tuple[Item, ...] = ()

    def part(self, wanted: Callable[[Item], bool]) -> Gallery:
        """Keep some of the photos."""
        kept = [n for n, item in enumerate(self.items) if wanted(item)]
        return replace(
            self,
            items=tuple(self.items[n] for n in kept),
            embeddings=self.embeddings[kept],
            chips=None if self.chips is None else self.chips[kept],
            sha256s=tuple(self.sha256s[n] for n in kept) if self.sha256s else (),
            faceless=tuple(filter(wanted, self.faceless)),
        )

    def of_chips(self) -> Gallery:
        """Put the chips in place of the embeddings, for a classifier that learns from them."""
        assert self.chips is not None
        return replace(self, embeddings=self.chips)


def without_others(gallery: Gallery, others: Iterable[Gallery], *, suffix: str, cloaked: bool) -> Gallery:
    """Leave out what belongs to the other side, where clean and cloaked photos lie side by side.

    Of a photo that is on both sides the suffix tells which it belongs to; a photo that is on one side stays.
    """
    if not suffix:
        return gallery
    shared = {os.path.realpath(item.path) for other in others for item in (*other.items, *other.faceless)}

    def belongs(item: Item) -> bool:
        ends = without_suffix(item.relative, suffix) is not None
        return ends == cloaked or os.path.realpath(item.path) not in shared

    return gallery.part(belongs)


def holds_photos(name: str) -> bool:
    """Tell a folder or archive of photos from a file of embeddings or records."""
    return name != STDIN and (Path(name).is_dir() or Path(name).suffix == ".tar")


def read_gallery(name: str) -> Gallery:
    """Read embeddings: a .safetensors file of ``facetools embed``, its records in a file, or ``-`` for stdin.

    Of several faces of a photo the largest counts. Photos that failed are left out.

    Raises
    ------
    ToolError
        There is no face in it, a row does not match its record or is no number, two rows or photos contradict each
        other, or extractors differ.
    """
    if name != STDIN and (not Path(name).exists() or Path(name).is_dir()):
        raise ToolError(f"{name}: no such file or folder", kind="missing")
    faceless: list[Item] = []
    with of_the_whole_run():
        found = list(_rows_of_file(name) if _is_safetensors(name) else _rows_of_records(name, faceless))
    if not found:
        raise ToolError(f"{name}: no face in it; embed photos with `facetools embed`", kind="empty")
    _check_alike(name, found)
    chosen = _largest(name, found)
    about = chosen[0].about
    items, unseen = tuple(row.item for row in chosen), {item.path: item for item in faceless}
    refuse_same_place((*items, *unseen.values()), name)
    rows, people = np.stack([row.embedding for row in chosen]), tuple(about.get("people", ()))
    gallery = Gallery(about["name"], about["sha256"], about["distance"], items, rows, people)
    digests = [row.sha256 for row in chosen]
    known = tuple(each for each in digests if each is not None)
    return replace(gallery, sha256s=known if len(known) == len(digests) else (), faceless=tuple(unseen.values()))


@dataclass(frozen=True, slots=True)
class _Row:
    item: Item
    face: int
    sha256: str | None
    embedding: npt.NDArray[np.float32]
    about: Mapping[str, Any]


def _check_alike(name: str, rows: Sequence[_Row]) -> None:
    """Refuse embeddings of several extractors, or of several widths, which no extractor makes."""
    kinds = {(row.about["name"], row.about["sha256"]) for row in rows}
    if len(kinds) > 1:
        names = " and ".join(sorted(f"{kind[0]} ({kind[1][:12]})" for kind in kinds))
        raise ToolError(f"{name}: embedded by {names}; evaluate one extractor at a time", kind="extractors-differ")
    widths = {len(row.embedding) for row in rows}
    if len(widths) > 1:
        raise ToolError(
            f"{name}: embeddings of {min(widths)} and of {max(widths)} numbers; embed all photos once more",
            kind="embeddings",
        )


def _largest(name: str, rows: Iterable[_Row]) -> list[_Row]:
    """Keep the largest face of each photo. A face that is there twice must be the same face.

    Raises
    ------
    ToolError
        It is not, or it is no number.
    """
    faces: dict[tuple[str, int], _Row] = {}
    for row in rows:
        first = faces.setdefault((row.item.path, row.face), row)
        if first.sha256 != row.sha256 or not np.array_equal(first.embedding, row.embedding, equal_nan=True):
            what = "sha256" if first.sha256 != row.sha256 else "embeddings"
            raise ToolError(
                f"{name}: {row.item.path}, face {row.face}, is in it twice, with different {what}; the photo was "
                "embedded anew since: keep the records of one run",
                kind="twice",
            )
    largest: dict[str, _Row] = {}
    for (path, face), row in faces.items():
        if path not in largest or face < largest[path].face:
            largest[path] = row
    for row in largest.values():
        if not np.isfinite(row.embedding).all():
            raise ToolError(
                f"{name}: the embedding of {row.item.path} is not finite; embed it anew or leave it out", kind="nan"
            )
    return list(largest.values())


def refuse_same_place(items: Iterable[Item], name: str) -> None:
    """Refuse two photos that lie at one place below their inputs: a copy could be of either.

    Raises
    ------
    ToolError
        The message names both.
    """
    seen: dict[str, str] = {}
    for item in items:
        if seen.setdefault(item.relative, item.path) != item.path:
            raise ToolError(
                f"{name}: {seen[item.relative]} and {item.path} both lie at {item.relative} below their folders; "
                "embed the folder above them, or each into a file of its own",
                kind="twice",
            )


def refuse_zeros(gallery: Gallery, distance: str, name: str) -> None:
    """Refuse embeddings of length 0 if cosines are asked for: nothing is near them, nor far.

    Raises
    ------
    ToolError
        The message names a photo.
    """
    if distance == "cosine" and len(zero := np.flatnonzero(~gallery.embeddings.any(1))):
        raise ToolError(
            f"{name}: the embedding of {gallery.items[int(zero[0])].path} is all zeros, which has no cosine; embed it "
            "anew or leave it out, or give --distance euclidean",
            kind="nan",
        )


def _is_safetensors(name: str) -> bool:
    # A pipe can be read once, and only records come through one.
    if name == STDIN or not Path(name).is_file():
        return False
    with Path(name).open("rb") as stream:
        return stream.read(9)[8:] == b"{"


class _Embeddings:
    """A file of ``facetools embed``."""

    def __init__(self, path: Path) -> None:
        about = read_metadata(path)
        if not str(about.get("schema", "")).startswith(EMBEDDINGS):
            raise ToolError(f"{path}: not a file of embeddings; make one with `facetools embed`", kind="embeddings")
        with open_safetensors(path) as file:
            self.values = np.array(file.tensor("embeddings"), np.float32)
        self.rows: Any = about.get("rows")  # [{...}], and {...}, as is checked below
        self.about: Any = about.get("extractor")
        if wrong := self._wrong():
            raise ToolError(f"{path}: {wrong}; embed anew", kind="embeddings")

    def _wrong(self) -> str | None:
        """Say what is wrong with the file."""
        about, rows = self.about, self.rows
        if not (isinstance(about, dict) and all(isinstance(about.get(key), str) for key in ("name", "sha256"))):
            return "its metadata does not name the extractor"
        if about.get("distance") not in ("cosine", "euclidean"):
            return f"its metadata has distance {about.get('distance')!a}, which is neither cosine nor euclidean"
        people = about.get("people", [])
        if not (isinstance(people, list) and all(isinstance(person, str) for person in people)):
            return "the people in its metadata are no list of names"
        if self.values.ndim != 2 or not self.values.shape[1]:
            return f"its embeddings are of shape {self.values.shape}, and not one row a face"
        if not (isinstance(rows, list) and all(map(_is_row, rows))):
            return "its metadata does not list a path, relative and face for each row"
        if len(rows) != len(self.values):
            return f"{len(self.values)} embeddings, but its metadata names {len(rows)} faces"
        return None


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) and row[key] for key in ("path", "relative"))
        and type(row.get("face")) is int
        and isinstance(row.get("sha256"), str | None)
    )


def _rows_of_file(name: str) -> Iterator[_Row]:
    file = _Embeddings(Path(name))
    for row, values in zip(file.rows, file.values, strict=True):
        yield _Row(Item(row["path"], row["relative"]), row["face"], row.get("sha256"), values, file.about)


def _rows_of_records(name: str, faceless: list[Item]) -> Iterator[_Row]:
    """Give the rows that records name; ``faceless`` gets the photos in which no face was found."""
    files: dict[Path, _Embeddings] = {}
    with ExitStack() as stack:
        stream: IO[bytes] = sys.stdin.buffer if name == STDIN else stack.enter_context(Path(name).open("rb"))
        for number, record in enumerate(read_records(stream, name="stdin" if name == STDIN else name), 1):
            where = f"{name}, record {number}"
            if record.get("row") is None:
                named = all(isinstance(record.get(key), str) for key in ("path", "relative"))
                if named and "reason" in record and "error" not in record:
                    faceless.append(Item(record["path"], record["relative"]))
                continue
            path = _file_of(record, name, where)
            if path not in files:
                files[path] = _Embeddings(path)
            yield _row_of(record, files[path], path, where)


def _file_of(record: Record, name: str, where: str) -> Path:
    """Find the file of embeddings that a record names: from here, or beside the records."""
    told = record.get("file")
    if not isinstance(told, str) or not told:
        raise ToolError(
            f"{where}: it names no file of embeddings; give records of `facetools embed`", kind="bad-record"
        )
    beside = Path(name).parent / Path(told).name
    for path in (Path(told), *([beside] if name != STDIN else [])):
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # no name that a file could have
            continue
    raise ToolError(f"{where}: {told}: no such file; run from the folder where it was made", kind="missing")


def _row_of(record: Record, file: _Embeddings, path: Path, where: str) -> _Row:
    """Take a record's row, which must be the one that the file knows under this number."""
    row = record["row"]
    if type(row) is not int or not 0 <= row < len(file.rows):
        raise ToolError(f"{where}: row {row!r}, but {path} has rows 0 to {len(file.rows) - 1}", kind="rows-differ")
    known = file.rows[row]
    if not isinstance(record.get("path"), str) or not record["path"]:
        raise ToolError(f"{where}: it has no path; give records of `facetools embed`", kind="bad-record")
    for key in ("relative", "face", "sha256"):
        if record.get(key) != known.get(key):
            raise ToolError(
                f"{where}: row {row} of {path} is {known.get('relative')}, face {known.get('face')}, of other "
                f"{key}; the file was made anew since: embed once more and use those records",
                kind="rows-differ",
            )
    item = Item(record["path"], record["relative"])
    return _Row(item, known["face"], known.get("sha256"), file.values[row], file.about)


class PhotoEmbedder:
    """Embeds photos with several extractors, after each of several steps that a trainer may take.

    Parameters
    ----------
    extractors
        What embeds.
    steps
        What is done to each photo first, one at a time. Faces are found in the photo as it is.
    chips
        Keep the faces too, as the extractors see them.
    """

    def __init__(self, extractors: Sequence[Extractor], steps: Sequence[Preprocess], *, chips: bool = False) -> None:
        self._extractors, self._steps, self._keeps_chips = extractors, steps, chips
        self._chips: dict[tuple[str, str], list[npt.NDArray[np.uint8]]] = defaultdict(list)
        self._items: list[Item] = []
        self._faceless: list[Item] = []
        self._sha256s: list[str] = []
        self._rows: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = defaultdict(list)

    def add(self, intake: Intake) -> None:
        """Embed a photo's first face; one without a face is remembered."""
        import torch

        from facetools.embedding import chip_of

        if not intake.faces:
            self._faceless.append(intake.item)
            return
        self._items.append(intake.item)
        self._sha256s.append(intake.digest)
        for step in self._steps:
            pixels, scale = step.apply(intake.photo.pixels)
            face = intake.faces[0].scaled(scale)
            for extractor in self._extractors:
                chip = chip_of(pixels, face, extractor)
                with torch.inference_mode():
                    row = extractor.network(chip)[0].float().cpu().numpy()
                self._rows[extractor.name, step.name].append(row)
                if self._keeps_chips:
                    seen = (chip[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
                    self._chips[extractor.name, step.name].append(seen)

    def galleries(self, name: str) -> dict[tuple[str, str], Gallery]:
        """Give what was embedded, by the names of extractor and step; ``name`` is the input's, for messages."""
        if not self._items:
            raise ToolError(f"{name}: no face in any of its photos", kind="empty")
        made = {}
        for extractor in self._extractors:
            for step in self._steps:
                key = (extractor.name, step.name)
                rows, chips = np.stack(self._rows[key]), np.stack(self._chips[key]) if self._keeps_chips else None
                about = (extractor.name, extractor.sha256, extractor.distance)
                items, unseen = tuple(self._items), tuple(self._faceless)
                made[key] = Gallery(*about, items, rows, extractor.people, chips, tuple(self._sha256s), unseen)
        return made


def name_people(gallery: Gallery, labels: Mapping[str, str] | None = None) -> list[str]:
    """Name the person of each photo: by its folder, or by ``labels``, from where it lies below its input.

    Raises
    ------
    ToolError
        Two names differ only in case or Unicode form, folders of one name lie in different folders, a photo has no
        label, or there are fewer than two people.
    """
    if labels is None:
        _refuse_several_places(gallery)
    people = []
    for item in gallery.items:
        if labels is not None and item.relative not in labels:
            raise ToolError(f"{item.path}: --labels names no person for {item.relative}; add it", kind="labels")
        people.append(person_of(item.relative) if labels is None else labels[item.relative])
    alike: dict[str, str] = {}
    for name in dict.fromkeys(people):
        plain = folded(name)
        if other := alike.get(plain):
            raise ToolError(
                f"people {other!a} and {name!a} differ only in case or Unicode form; rename a folder, or give --labels",
                kind="labels",
            )
        alike[plain] = name
    if len(alike) < 2:
        only = f" ({people[0]})" if people else ""
        raise ToolError(
            f"one person{only} is in the gallery, and a recogniser needs two; name people by folders, or give --labels",
            kind="labels",
        )
    return people


def _refuse_several_places(gallery: Gallery) -> None:
    """Refuse folders of one name in different folders: they are years, say, or albums, and no people."""
    places: dict[str, tuple[str, ...]] = {}
    for item in gallery.items:
        person, place = person_of(item.relative), folders_of(item.relative)
        if (first := places.setdefault(person, place)) != place:
            one, other = ("/".join(each) or "the top" for each in (first, place))
            raise ToolError(
                f"the nearest folder names the person, and {one} and {other} would be one person, {person}; say who "
                "is where with --labels",
                kind="labels",
            )


def refuse_known(gallery: Gallery, people: Iterable[str]) -> None:
    """Refuse people whose photos an extractor was trained on: what it does for them says nothing of anybody else.

    Raises
    ------
    ToolError
        The message names one of them.
    """
    trained = {folded(name) for name in gallery.people}
    if known := sorted(name for name in set(people) if folded(name) in trained):
        more = f" and {len(known) - 1} more" if known[1:] else ""
        raise ToolError(
            f"{gallery.extractor} was trained on photos of {known[0]}{more}, who must not be in the gallery; evaluate "
            "other people, or train without them (train-robust --hold-out)",
            kind="people-known",
        )


def read_labels(path: Path) -> dict[str, str]:
    """Read who is where: JSONL with ``relative`` and ``person``.

    Raises
    ------
    ToolError
        A record is none of these, a name has blanks around it or control characters in it, or a photo has two.
    """
    labels: dict[str, str] = {}
    try:
        with of_the_whole_run(), path.open("rb") as stream:
            for number, record in enumerate(read_records(stream, name=str(path)), 1):
                relative, person = record.get("relative"), record.get("person")
                if not (isinstance(relative, str) and isinstance(person, str) and person):
                    example = json.dumps({"relative": "a/1.jpg", "person": "a"})
                    raise ToolError(f"{path}, record {number}: give each photo as {example}", kind="labels")
                if person != person.strip() or any(unicodedata.category(char) == "Cc" for char in person):
                    what = f"person {person!a} has blanks around it or control characters in it"
                    raise ToolError(f"{path}, record {number}: {what}; write the name alone", kind="labels")
                if (other := labels.setdefault(relative, person)) != person:
                    what = f"{relative} is {person!a}, and {other!a} in an earlier record"
                    raise ToolError(f"{path}, record {number}: {what}; keep one of them", kind="labels")
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}", kind="labels") from None
    return labels
