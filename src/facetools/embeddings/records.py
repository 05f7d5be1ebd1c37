"""Read embedded faces from files of embeddings, or from the records that name their rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.inputs import STDIN, Item
from _toolio.streams.records import Record, read_records
from facetools.attacks.origins import Origin
from facetools.embeddings.files import Embeddings, is_safetensors, read_embeddings


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
        A ``.safetensors`` file of ``facetools embed``, its records in a file, or ``-`` for records on stdin. Records
        of photos that failed are left out.

    Raises
    ------
    ToolError
        A file is missing or damaged, or a record does not match its row.
    """
    faceless: list[Item] = []
    with of_the_whole_run():
        found = list(_faces_of_file(name) if is_safetensors(name) else _faces_of_records(name, faceless))
    return found, faceless


def _faces_of_file(name: str) -> Iterator[EmbeddedFace]:
    file = read_embeddings(Path(name))
    for row, values in zip(file.rows, file.values, strict=True):
        item = Item(row["path"], row["relative"])
        yield EmbeddedFace(item, row["face"], row.get("sha256"), values, file.extractor, row.get("made_against"))


def _faces_of_records(name: str, faceless: list[Item]) -> Iterator[EmbeddedFace]:
    """Yield the faces whose rows records name; add the photos in which no face was found to ``faceless``."""
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
                files[path] = read_embeddings(path)
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
    if type(row) is not int or not 0 <= row < len(file.rows):
        raise ToolError(f"{where}: row {row!r}, but {path} has rows 0 to {len(file.rows) - 1}", kind="rows-differ")
    known = file.rows[row]
    if not isinstance(record.get("path"), str) or not record["path"]:
        raise ToolError(f"{where}: it has no path; give records of `facetools embed`", kind="bad-record")
    for key in ("relative", "face", "sha256"):
        if record.get(key) != known.get(key):
            raise ToolError(
                f"{where}: row {row} of {path} is {known.get('relative')}, face {known.get('face')}, of other "
                f"{key}; the file was made again since: embed once more and use those records",
                kind="rows-differ",
            )
    item = Item(record["path"], record["relative"])
    return EmbeddedFace(
        item, known["face"], known.get("sha256"), file.values[row], file.extractor, known.get("made_against")
    )
