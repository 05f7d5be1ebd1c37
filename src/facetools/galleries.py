"""Faces of known people: embeddings from records of ``facetools embed``, from its files, or straight from photos."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.paths import STDIN, Item
from _toolio.records import Record, read_records
from _toolio.tensors import open_safetensors, read_metadata
from facetools.matching import without_suffix
from facetools.people import folded, person_of

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

    def part(self, *, suffix: str, cloaked: bool) -> Gallery:
        """Keep the photos whose names end in a suffix, or those whose names do not: both may lie side by side."""
        if not suffix:
            return self
        kept = [
            n for n, item in enumerate(self.items) if (without_suffix(item.relative, suffix) is not None) == cloaked
        ]
        items, chips = tuple(self.items[n] for n in kept), None if self.chips is None else self.chips[kept]
        return replace(self, items=items, embeddings=self.embeddings[kept], chips=chips)

    def of_chips(self) -> Gallery:
        """Put the chips in place of the embeddings, for a classifier that learns from them."""
        assert self.chips is not None
        return replace(self, embeddings=self.chips)


def holds_photos(name: str) -> bool:
    """Tell a folder or archive of photos from a file of embeddings or records."""
    return name != STDIN and (Path(name).is_dir() or Path(name).suffix == ".tar")


def read_gallery(name: str) -> Gallery:
    """Read embeddings: a .safetensors file of ``facetools embed``, its records in a file, or ``-`` for stdin.

    Of several faces of a photo the largest counts. Photos without a face, and those that failed, are left out.

    Raises
    ------
    ToolError
        There is no face in it, a row does not match its record or is no number, or extractors differ.
    """
    if name != STDIN and not Path(name).is_file():
        raise ToolError(f"{name}: no such file or folder", kind="missing")
    found = list(_rows_of_file(name) if _is_safetensors(name) else _rows_of_records(name))
    if not found:
        raise ToolError(f"{name}: no face in it; embed photos with `facetools embed`", kind="empty")
    kinds = {(row.about["name"], row.about["sha256"]) for row in found}
    if len(kinds) > 1:
        names = " and ".join(sorted(f"{kind[0]} ({kind[1][:12]})" for kind in kinds))
        raise ToolError(f"{name}: embedded by {names}; evaluate one extractor at a time", kind="extractors-differ")
    largest: dict[str, _Row] = {}
    for row in found:
        if row.item.path not in largest or row.face < largest[row.item.path].face:
            largest[row.item.path] = row
    chosen = list(largest.values())
    _check_finite(name, chosen)
    about = chosen[0].about
    items = tuple(row.item for row in chosen)
    rows, people = np.stack([row.embedding for row in chosen]), tuple(about.get("people", ()))
    return Gallery(about["name"], about["sha256"], about["distance"], items, rows, people)


@dataclass(frozen=True, slots=True)
class _Row:
    item: Item
    face: int
    embedding: npt.NDArray[np.float32]
    about: Mapping[str, Any]


def _is_safetensors(name: str) -> bool:
    if name == STDIN:
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
        self.rows: list[dict[str, Any]] = about["rows"]
        self.about: dict[str, Any] = about["extractor"]
        if len(self.rows) != len(self.values):
            raise ToolError(
                f"{path}: {len(self.values)} embeddings, but its metadata names {len(self.rows)} faces; embed anew",
                kind="embeddings",
            )


def _rows_of_file(name: str) -> Iterator[_Row]:
    file = _Embeddings(Path(name))
    for row, values in zip(file.rows, file.values, strict=True):
        yield _Row(Item(row["path"], row["relative"]), row["face"], values, file.about)


def _rows_of_records(name: str) -> Iterator[_Row]:
    files: dict[Path, _Embeddings] = {}
    with ExitStack() as stack:
        stream: IO[bytes] = sys.stdin.buffer if name == STDIN else stack.enter_context(Path(name).open("rb"))
        for number, record in enumerate(read_records(stream, name="stdin" if name == STDIN else name), 1):
            if record.get("row") is None:
                continue
            where = f"{name}, record {number}"
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
        if path.is_file():
            return path
    raise ToolError(f"{where}: {told}: no such file; run from the folder where it was made", kind="missing")


def _row_of(record: Record, file: _Embeddings, path: Path, where: str) -> _Row:
    """Take a record's row, which must be the one that the file knows under this number."""
    row = record["row"]
    if not isinstance(row, int) or not 0 <= row < len(file.rows):
        raise ToolError(f"{where}: row {row!r}, but {path} has rows 0 to {len(file.rows) - 1}", kind="rows-differ")
    known = file.rows[row]
    for key in ("relative", "face", "sha256"):
        if record.get(key) != known.get(key):
            raise ToolError(
                f"{where}: row {row} of {path} is {known.get('relative')}, face {known.get('face')}, of other "
                f"{key}; the file was made anew since: embed once more and use those records",
                kind="rows-differ",
            )
    return _Row(Item(record["path"], record["relative"]), known["face"], file.values[row], file.about)


def _check_finite(name: str, rows: Iterable[_Row]) -> None:
    for row in rows:
        if not np.isfinite(row.embedding).all():
            raise ToolError(
                f"{name}: the embedding of {row.item.path} is not finite; embed it anew or leave it out", kind="nan"
            )


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
        self._rows: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = defaultdict(list)

    def add(self, intake: Intake) -> None:
        """Embed a photo's first face."""
        import torch

        from facetools.embedding import chip_of

        self._items.append(intake.item)
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
                made[key] = Gallery(*about, tuple(self._items), rows, extractor.people, chips)
        return made


def name_people(gallery: Gallery, labels: Mapping[str, str] | None = None) -> list[str]:
    """Name the person of each photo: by its folder, or by ``labels``, from where it lies below its input.

    Raises
    ------
    ToolError
        Two names differ only in case or Unicode form, a photo has no label, or there are fewer than two people.
    """
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
    """Read who is where: JSONL with ``relative`` and ``person``."""
    labels = {}
    try:
        with path.open("rb") as stream:
            for number, record in enumerate(read_records(stream, name=str(path)), 1):
                relative, person = record.get("relative"), record.get("person")
                if not (isinstance(relative, str) and isinstance(person, str) and person):
                    example = json.dumps({"relative": "a/1.jpg", "person": "a"})
                    raise ToolError(f"{path}, record {number}: give each photo as {example}", kind="labels")
                labels[relative] = person
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}", kind="labels") from None
    return labels
