"""Read a detector's records as scores with labels, clean or cloaked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import STDIN
from _toolio.streams.reading import open_input
from _toolio.streams.records import Record, has_failed, read_records
from facetools.names import CLEAN
from facetools.people import person_of, photo_of

UNKNOWN = -1

LEAST_PEOPLE = 10
"""With fewer, a bootstrap over people is meaningless, and photos are resampled instead."""

_MAKER = "give what `facetools detect` wrote"


@dataclass(frozen=True, slots=True)
class Truth:
    """Which records are of clean faces and which of cloaked ones.

    Attributes
    ----------
    files
        Files of records, ``-`` for stdin, each with the label of all its records: ``clean`` or a cloak's name; None
        where ``places`` or the records say it.
    places
        Words for error messages, a pattern of photos' paths, and the label of these photos.
    rest
        Label of records whose photos match no place; None if unknown.
    told
        Whether any label was given. If none was, the field ``truth`` of the records is read.
    """

    files: Sequence[tuple[str, str | None]]
    places: Sequence[tuple[str, re.Pattern[str], str]]
    rest: str | None
    told: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of faces, with labels and groups.

    Attributes
    ----------
    values
        float64 [n] in 0 to 1.
    kinds
        int [n], labels: 0 clean, k the k-th of ``cloaks`` from 1, -1 unknown.
    cloaks
        Names.
    groups
        int [n], from 0 without a gap: person or photo of the face, see ``over``.
    over
        What groups are: ``people``, named by folders; ``photos``; or ``faces``, of records without a path.
    threshold
        Scores from here on are labelled cloaked; None where records disagree.
    left_out
        Numbers of records that are not among the scores, by reason.
    model
        The detector that they are of; None where records do not say.
    """

    values: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    cloaks: tuple[str, ...]
    groups: npt.NDArray[np.int64]
    over: str
    threshold: float | None
    left_out: dict[str, int]
    model: str | None = None

    def against(self, cloak: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return scores, labels and groups of clean faces and those of one cloak, numbered from 1."""
        chosen = (self.kinds == 0) | (self.kinds == cloak)
        groups = np.unique(self.groups[chosen], return_inverse=True)[1]
        return self.values[chosen], self.kinds[chosen] == cloak, groups


def read_scores(truth: Truth, *, threshold: float | None = None, progress: Progress = no_progress) -> Scores:
    """Read scores and their labels.

    Parameters
    ----------
    truth
        Where the records are, and their labels.
    threshold
        Replaces the records' own.
    progress
        Shows how far reading is.

    Raises
    ------
    ToolError
        A file cannot be read or holds something else; a record has two labels; scores are of two detectors; no record
        has a score. The message names file and record.
    """
    reader = _Reader(truth)
    for path, name in truth.files:
        shown = "stdin" if path == STDIN else path
        for number, record in enumerate(progress(_read(path, shown), f"reading {shown}", None), 1):
            reader.add(record, name, f"{shown}, record {number}")
    return reader.finish(threshold)


def read_clean_scores(paths: Sequence[Path]) -> Scores:
    """Read the scores of clean faces.

    Raises
    ------
    ToolError
        As of `read_scores`; or a record's own field ``truth`` says that it is not clean.
    """
    reader = _Reader(Truth([(str(path), CLEAN) for path in paths], (), None, told=True))
    numbered = ((path, *each) for path in paths for each in enumerate(_read(str(path), str(path)), 1))
    for path, number, record in numbered:
        if (truth := record.get("truth")) not in (None, CLEAN):
            raise ToolError(
                f"{path}, record {number}: truth is {truth!a}, and thresholds are by clean faces; leave it out",
                kind="not-clean",
            )
        reader.add(record, CLEAN, f"{path}, record {number}")
    return reader.finish(None)


def _read(path: str, name: str) -> Iterator[Record]:
    with of_the_whole_run():
        if path == STDIN:
            yield from read_records(sys.stdin.buffer, name=name)
            return
        try:
            with open_input(path) as stream:
                yield from read_records(stream, name=name)
        except OSError as error:
            raise ToolError(f"{path}: {error.strerror}; {_MAKER}", kind="unreadable") from None


class _Reader:
    """Read records one by one and keep numbers only, so that a million of them fit."""

    def __init__(self, truth: Truth) -> None:
        self._truth, self._matched = truth, [0] * len(truth.places)
        self._values: list[float] = []
        self._names: list[str | None] = []
        self._people: list[int] = []
        self._photos: list[int] = []
        self._codes: tuple[dict[str, int], dict[str, int]] = {}, {}
        self._seen: dict[int, str | None] = {}
        self._thresholds: set[float | None] = set()
        self._model: str | None = None
        self._first, self._folders = "", False
        self.left_out = {"failed": 0, "without_score": 0, "without_truth": 0, "repeated": 0}
        self._records = 0

    def add(self, record: Record, name: str | None, where: str) -> None:
        self._records += 1
        score = record.get("score")
        if score is None:
            if not record.keys() & {"score", "error", "reason"}:
                raise ToolError(f"{where}: no score in it; {_MAKER}", kind="bad-record")
            self.left_out["failed" if has_failed(record) else "without_score"] += 1
            return
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ToolError(
                f"{where}: score is {score!r:.40}, and not a number from 0 to 1; was the file edited?",
                kind="bad-record",
            )
        name = name or self._label(record, where)
        if not self._repeats(record, name, where):
            self._check_model(record, where)
            self._keep(record, float(score), name)

    def _label(self, record: Record, where: str) -> str | None:
        """Return a record's label: by its photo's path, or else its own field ``truth``."""
        path = record.get("path")
        if not self._truth.told:
            name = record.get("truth")
            if name is not None and (not isinstance(name, str) or not name):
                raise ToolError(
                    f"{where}: truth is {name!a}, and not clean, cloaked or a cloak's name", kind="bad-record"
                )
            return name
        if not self._truth.places or not isinstance(path, str):
            return self._truth.rest
        path = os.path.normpath(path)
        found = [number for number, (_, place, _) in enumerate(self._truth.places) if place.match(path)]
        if len(found) > 1:
            options = " and ".join(self._truth.places[number][0] for number in found)
            raise ToolError(f"{where}: {path} lies in {options}; a face is of one kind", kind="two-kinds")
        for number in found:
            self._matched[number] += 1
            return self._truth.places[number][2]
        return self._truth.rest

    def _repeats(self, record: Record, name: str | None, where: str) -> bool:
        """Test whether a face was read before; raise a ToolError if it is clean and cloaked."""
        path = record.get("path")
        if not isinstance(path, str):
            return False
        key = hash((path, record["score"], str(record.get("face")), str(record.get("box"))))
        if key not in self._seen:
            self._seen[key] = name
            return False
        if self._seen[key] != name:
            kinds = " and ".join(str(kind or "of no kind") for kind in (self._seen[key], name))
            raise ToolError(f"{where}: the face of {path} is {kinds}; is a file given twice?", kind="two-kinds")
        self.left_out["repeated"] += 1
        return True

    def _check_model(self, record: Record, where: str) -> None:
        model = record.get("model")
        if isinstance(model, str):
            if self._model not in (None, model):
                raise ToolError(
                    f"{where}: scored by {model}, and those before by {self._model}; take each detector by itself",
                    kind="two-detectors",
                )
            self._model = model

    def _keep(self, record: Record, score: float, name: str | None) -> None:
        place = next((record[key] for key in ("relative", "path") if isinstance(record.get(key), str)), None)
        if place is None:
            # A slash alone is no path: the number after it is the face's own.
            person = photo = f"/{len(self._values)}"
        else:
            person, photo = person_of(place), photo_of(place)
            self._folders |= "/" in place
            self._first = self._first or str(record.get("path") or place)
        threshold = record.get("threshold")
        known = isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold <= 1
        self._thresholds.add(threshold if known else None)
        self._values.append(score)
        self._names.append(name)
        for numbers, codes, key in zip((self._people, self._photos), self._codes, (person, photo), strict=True):
            numbers.append(codes.setdefault(key, len(codes)))

    def finish(self, threshold: float | None) -> Scores:
        self._check_found()
        cloaks = tuple(dict.fromkeys(name for name in self._names if name not in (None, CLEAN)))
        numbers: dict[Any, int] = {None: UNKNOWN, CLEAN: 0} | {name: k for k, name in enumerate(cloaks, 1)}
        kinds = np.array([numbers[name] for name in self._names])
        kept = kinds != UNKNOWN if (kinds != UNKNOWN).any() or self._truth.told else np.ones(len(kinds), bool)
        self.left_out["without_truth"] = int((~kept).sum())
        by_people = self._folders and len(self._codes[0]) >= LEAST_PEOPLE
        groups = np.array(self._people if by_people else self._photos)[kept]
        if threshold is None and len(self._thresholds) == 1:
            (threshold,) = self._thresholds
        return Scores(
            np.array(self._values)[kept],
            kinds[kept],
            tuple(str(cloak) for cloak in cloaks),
            np.unique(groups, return_inverse=True)[1],
            "people" if by_people else "photos" if self._first else "faces",
            threshold,
            self.left_out,
            self._model,
        )

    def _check_found(self) -> None:
        names = ", ".join("stdin" if path == STDIN else path for path, _ in self._truth.files)
        if not self._records:
            raise ToolError(f"{names}: no record; {_MAKER}", kind="empty")
        if not self._values:
            raise ToolError(f"{names}: none of {self._records} records has a score; was a face found?", kind="empty")
        for path, name in self._truth.files:
            if name is not None and name not in self._names:
                raise ToolError(f"{path}: no record of it has a score; was a face found?", kind="empty")
        for (option, _, _), matched in zip(self._truth.places, self._matched, strict=True):
            if not matched:
                raise ToolError(
                    f"{option}: no record is of a photo in it; the first is of {self._first or 'no photo'}",
                    kind="empty",
                )
