"""Read galleries from embedding files, records or photos."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.inputs import STDIN, Item
from _toolio.streams.records import Record, read_records
from facetools.embeddings.files import Embeddings, is_safetensors
from facetools.evaluation.gallery import Gallery, refuse_same_place

if TYPE_CHECKING:
    from facetools.extractors.extractor import Extractor
    from facetools.intake import Intake
    from facetools.transforms.preprocess import Preprocess


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
        found = list(_rows_of_file(name) if is_safetensors(name) else _rows_of_records(name, faceless))
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


def _rows_of_file(name: str) -> Iterator[_Row]:
    file = Embeddings(Path(name))
    for row, values in zip(file.rows, file.values, strict=True):
        yield _Row(Item(row["path"], row["relative"]), row["face"], row.get("sha256"), values, file.about)


def _rows_of_records(name: str, faceless: list[Item]) -> Iterator[_Row]:
    """Give the rows that records name; ``faceless`` gets the photos in which no face was found."""
    files: dict[Path, Embeddings] = {}
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
                files[path] = Embeddings(path)
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


def _row_of(record: Record, file: Embeddings, path: Path, where: str) -> _Row:
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

        from facetools.embeddings.chips import chip_of

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
