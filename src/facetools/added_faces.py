"""Faces that somebody has added by hand: a JSON Lines file of photos, each line with a box or landmarks."""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _toolio.errors import InputError, ToolError, param
from _toolio.streams.inputs import Item, reason_of
from _toolio.streams.reading import lines_of, open_input
from _toolio.streams.records import Record, parse_record

SAME_FACE = 0.5
"""Intersection over union from which on an added face stands for one that was found."""


class AddedFaces:
    """Records of faces to cloak beside those that are found, by the photo that they are in.

    Parameters
    ----------
    lines
        Number of each line, and its record: ``path`` (or ``source``, as ``perturb`` prints it), and ``box`` or
        ``landmarks``.
    name
        The file, for messages.
    """

    def __init__(self, lines: Sequence[tuple[int, Record]] = (), name: str = "") -> None:
        self._name = name
        self._faces: defaultdict[str, list[Record]] = defaultdict(list)
        self._first: dict[str, tuple[int, str]] = {}
        self._used: set[str] = set()
        for number, record in lines:
            path = record.get("source") or record["path"]
            key = os.path.normpath(path)
            self._first.setdefault(key, (number, path))
            self._faces[key].append(record)

    def of(self, item: Item) -> tuple[Record, ...]:
        """Return the records of a photo's added faces."""
        key = os.path.normpath(item.path)
        if key not in self._faces:
            return ()
        self._used.add(key)
        return tuple(self._faces[key])

    def unused(self) -> Iterator[Item]:
        """Yield the photos that no input was, each with the error: a face that somebody added is not cloaked."""
        for key in self._faces:
            if key not in self._used:
                number, path = self._first[key]
                message = f"{self._name}, line {number}: {path} is not among the photos; spell it as their records do"
                yield Item(path, "unnamed", error=InputError(message, kind="unknown-photo"))


def read_added_faces(path: Path | None) -> AddedFaces:
    """Read a file of added faces; None: there are none.

    Raises
    ------
    ToolError
        A line is no record, names no photo, or has neither a box nor landmarks.
    """
    if path is None:
        return AddedFaces()
    lines = list[tuple[int, Record]]()
    try:
        with open_input(path) as stream:
            for number, line in enumerate(lines_of(stream, str(path)), 1):
                if line.strip():
                    lines.append((number, _parse(line, f"{param('faces_file')} {path}, line {number}")))
    except OSError as error:
        raise ToolError(f"{path}: {reason_of(error)}", kind="unreadable") from None
    except InputError as error:
        raise ToolError(error.message, kind=error.kind) from None
    return AddedFaces(lines, str(path))


def _parse(line: bytes, where: str) -> Record:
    """Read the record of one added face."""
    from facetools.faces.face import face_of

    record = parse_record(line, where=where)
    if not all(isinstance(record.get(key, ""), str) for key in ("path", "source")):
        raise InputError(f"{where}: path is no text", kind="bad-record")
    if not (record.get("source") or record.get("path")):
        raise InputError(f"{where}: no path; name the photo that the face is in", kind="bad-record")
    if face_of(record, where) is None:
        raise InputError(f"{where}: neither a box nor landmarks", kind="bad-record")
    return record


def join_faces(found: Sequence[Any], added: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Join found faces with added ones, one of which takes the place of a found face that it overlaps.

    Parameters
    ----------
    found, added
        Faces with a ``box``.

    Returns
    -------
    list, list of int
        All faces, those that were found first, and the places of the added ones among them.
    """
    faces, places = list(found), list[int]()
    for face in added:
        overlaps = [_overlap(face.box, each.box) for each in found]
        best = max(range(len(found)), key=lambda n: overlaps[n], default=-1)
        if best >= 0 and overlaps[best] > SAME_FACE and best not in places:
            faces[best] = face
            places.append(best)
        else:
            places.append(len(faces))
            faces.append(face)
    return faces, places


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)
