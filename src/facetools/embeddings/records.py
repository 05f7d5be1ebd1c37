"""Read embedded faces from files of embeddings, or from the records that name their rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.inputs import STDIN, Item
from _toolio.streams.reading import open_input
from _toolio.streams.records import Record, has_failed, read_records
from facetools.attacks.origins import Origin
from facetools.embeddings.files import Embeddings, holds_embeddings, read_each, read_part
from facetools.people import composed


@dataclass(frozen=True, slots=True)
class EmbeddedFace:
    """A face and its embedding.

    Attributes
    ----------
    item
        The photo.
    face
        The face's number in the photo, from 0, largest first.
    sha256
        Of the photo's bytes, where it is known.
    embedding
        float32 [D].
    extractor
        As ``Embeddings.extractor``.
    made_against
        What the photo was cloaked against, where that is known.
    """

    item: Item
    face: int
    sha256: str | None
    embedding: npt.NDArray[np.float32]
    extractor: Mapping[str, Any]
    made_against: Origin | None = None


def read_faces(name: str) -> tuple[list[EmbeddedFace], list[Item]]:
    """Read all embedded faces of an input, and the photos in which no face was found.

    Parameters
    ----------
    name
        A ``.safetensors`` file of ``facetools embed``, its folder of parts, its records in a file, or ``-`` for records
        on stdin. Records of photos that failed are left out.

    Raises
    ------
    ToolError
        A file is missing or damaged, or a record does not match its row.
    """
    faceless: list[Item] = []
    with of_the_whole_run():
        found = list(_faces_of_file(name) if holds_embeddings(name) else _faces_of_records(name, faceless))
    return found, faceless


def check_alike(name: str, faces: Sequence[EmbeddedFace], *, verb: str = "evaluate") -> None:
    """Refuse embeddings of several extractors, or of several widths, which no extractor makes.

    Parameters
    ----------
    name, verb
        The input, and what is to be done with it, for the message.
    faces
        Its faces.

    Raises
    ------
    ToolError
        The message names the input and what differs.
    """
    kinds = {(face.extractor["name"], face.extractor["sha256"]) for face in faces}
    if len(kinds) > 1:
        names = " and ".join(sorted(f"{kind[0]} ({kind[1][:12]})" for kind in kinds))
        raise ToolError(f"{name}: embedded by {names}; {verb} one extractor at a time", kind="extractors-differ")
    widths = {len(face.embedding) for face in faces}
    if len(widths) > 1:
        raise ToolError(
            f"{name}: embeddings of {min(widths)} and of {max(widths)} numbers; embed all photos once more",
            kind="embeddings",
        )


def distinct_faces(name: str, found: Iterable[EmbeddedFace]) -> list[EmbeddedFace]:
    """Return each face of each photo once, in the order of their first records.

    Raises
    ------
    ToolError
        Duplicates of a face in the input, ``name``, disagree.
    """
    faces: dict[tuple[str, int], EmbeddedFace] = {}
    for face in found:
        first = faces.setdefault((face.item.path, face.face), face)
        if first.sha256 != face.sha256 or not np.array_equal(first.embedding, face.embedding, equal_nan=True):
            what = "sha256" if first.sha256 != face.sha256 else "embeddings"
            raise ToolError(
                f"{name}: {face.item.path}, face {face.face}, is in it twice, with different {what}; the photo was "
                "embedded again since: keep the records of one run",
                kind="twice",
            )
    return list(faces.values())


def _faces_of_file(name: str) -> Iterator[EmbeddedFace]:
    for file in read_each(Path(name)):
        for row, values in zip(file.rows, file.values, strict=True):
            item = Item(row["path"], row["relative"])
            yield EmbeddedFace(item, row["face"], row.get("sha256"), values, file.extractor, row.get("made_against"))


def _faces_of_records(name: str, faceless: list[Item]) -> Iterator[EmbeddedFace]:
    """Yield the faces whose rows records name; add the photos in which no face was found to ``faceless``."""
    files: dict[Path, Embeddings] = {}
    with ExitStack() as stack:
        stream: IO[bytes] = sys.stdin.buffer if name == STDIN else stack.enter_context(open_input(name))
        for number, record in enumerate(read_records(stream, name="stdin" if name == STDIN else name), 1):
            where = f"{name}, record {number}"
            if record.get("row") is None:
                named = all(isinstance(record.get(key), str) for key in ("path", "relative"))
                if named and record.get("reason") and not has_failed(record):
                    faceless.append(Item(record["path"], record["relative"]))
                continue
            path = _file_of(record, name, where)
            if path not in files:
                files[path] = read_part(path)
            yield _face_of(record, files[path], path, where)


def _file_of(record: Record, name: str, where: str) -> Path:
    """Return the file of embeddings that a record names: as it stands, or beside the records."""
    named = record.get("file")
    if not isinstance(named, str) or not named:
        raise ToolError(
            f"{where}: it names no file of embeddings; give records of `facetools embed`", kind="bad-record"
        )
    beside = Path(name).parent / Path(named).name
    for path in (Path(named), *([beside] if name != STDIN else [])):
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # no name that a file could have
            continue
    raise ToolError(f"{where}: {named}: no such file; run from the folder where it was made", kind="missing")


def _face_of(record: Record, file: Embeddings, path: Path, where: str) -> EmbeddedFace:
    """Return a record's face, which must be the one that the file has under this row number."""
    row = record["row"]
    if isinstance(row, str):
        raise ToolError(f"{where}: row {row!a:.40} is text; leave records as they are", kind="bad-record")
    if type(row) is not int or not 0 <= row < len(file.rows):
        raise ToolError(f"{where}: row {row!r}, but {path} has rows 0 to {len(file.rows) - 1}", kind="rows-differ")
    known = file.rows[row]
    if not isinstance(record.get("path"), str) or not record["path"]:
        raise ToolError(f"{where}: it has no path; give records of `facetools embed`", kind="bad-record")
    for key in ("relative", "face", "sha256"):
        if key not in record and known.get(key) is not None:
            raise ToolError(
                f"{where}: it has no {key}; give whole records of `facetools embed`, or {path} itself",
                kind="bad-record",
            )
        if _plain(record.get(key)) != _plain(known.get(key)):
            raise ToolError(
                f"{where}: row {row} of {path} is {known.get('relative')}, face {known.get('face')}, of other "
                f"{key}; the file was made again since: embed once more and use those records",
                kind="rows-differ",
            )
    item = Item(record["path"], record["relative"])
    return EmbeddedFace(
        item, known["face"], known.get("sha256"), file.values[row], file.extractor, known.get("made_against")
    )


def _plain(value: object) -> object:
    """Return a name in one Unicode form: what has been on a Mac's disk has another."""
    return composed(value) if isinstance(value, str) else value
