"""Find faces of the same person in embeddings: the records of ``facetools match``.

Importing this module imports no numpy, so that commands can check what they were given first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from _toolio.errors import UsageError, param, spelled
from _toolio.progress import Progress, no_progress
from _toolio.words import many
from facetools.extractors.factory import DEFAULT

if TYPE_CHECKING:
    from _toolio.streams.records import Record
    from facetools.embeddings.matching import Faces
    from facetools.embeddings.thresholds import Threshold

SCHEMA = "facetools.match/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchConfig:
    """Which faces are one person's, and what is told of them.

    Attributes
    ----------
    far
        False accept rate of the threshold: share of pairs of different people that are called the same, above 0, 0.5 at
        most. Without ``calibrate`` one of those that were measured for the extractor.
    threshold
        The largest distance of one person, whatever its rate.
    calibrate
        Measure the threshold on other people: their photos, a folder or tar with a folder a person, or embeddings.
    extractor
        What embeds photos of ``calibrate``: a built-in extractor or a file.
    most
        So many of the nearest pairs, within the threshold or not. None: all within it, up to a million.
    cluster
        Group the faces into people, instead of pairs.
    """

    far: float = 1e-4
    threshold: float | None = None
    calibrate: str | None = None
    extractor: str = DEFAULT
    most: int | None = None
    cluster: bool = False

    def check(self) -> None:
        """Refuse what contradicts itself, or cannot be; reads no file.

        Raises
        ------
        UsageError
            The message names the parameter.
        """
        if not 0 < self.far <= 0.5:
            raise UsageError(f"{param('far')} {self.far:g}: a false accept rate above 0, 0.5 at most")
        if self.threshold is not None and not 0 <= self.threshold < math.inf:
            raise UsageError(f"{param('threshold')} {self.threshold:g}: a distance of 0 or more")
        if self.most is not None and self.most < 1:
            raise UsageError(f"{param('most')} {self.most}: 1 or more")
        if self.threshold is not None and self.calibrate is not None:
            raise UsageError(f"{param('threshold')} and {param('calibrate')}: give one of them")
        if self.cluster and self.most is not None:
            raise UsageError(f"{param('cluster')} and {param('most')}: give one of them; people are of all pairs")


@dataclass(frozen=True, slots=True)
class Matches:
    """What was found.

    Attributes
    ----------
    records
        One a pair of faces, nearest first; or one a face, person by person.
    summary
        Their sum in a line.
    note
        What is left out of the records; "" if nothing is.
    """

    records: Iterator[Record]
    summary: str
    note: str = ""


def find_matches(
    names: Sequence[str], config: MatchConfig, *, device: str = "auto", progress: Progress = no_progress
) -> Matches:
    """Find pairs of faces of one person, or the people that faces are of.

    Parameters
    ----------
    names
        One input or two, as ``facetools.embeddings.matching.read_embedded`` reads them. Of two, a pair is of a face of
        each; people are of both together.
    config
        See `MatchConfig`.
    device
        Where photos of ``config.calibrate`` are embedded.
    progress
        Shows how far reading and matching are.

    Raises
    ------
    UsageError
        The configuration contradicts itself, or no threshold was measured for the extractor at this rate.
    ToolError
        As ``read_embedded`` says; or there are too few people to calibrate on, or too many pairs to group.
    """
    from facetools.embeddings.matching import read_embedded

    config.check()
    inputs = read_embedded(names)
    limit = _threshold(inputs[0], config, device, progress)
    found = _people(inputs, limit, progress) if config.cluster else _pairs(inputs, limit, config.most, progress)
    about = {"threshold": limit.distance, "far": limit.far, "threshold_source": limit.source}
    about["extractor"] = inputs[0].faces[0].extractor["name"]
    return Matches((_complete(fields, about) for fields in found.records), found.summary, found.note)


def _complete(fields: Record, about: Record) -> Record:
    return {"distance": fields["distance"], "schema": SCHEMA, **fields, **about}


def _threshold(faces: Faces, config: MatchConfig, device: str, progress: Progress) -> Threshold:
    from facetools.embeddings import thresholds
    from facetools.embeddings.people import people_of, read_people
    from facetools.embeddings.records import check_alike

    if config.threshold is not None:
        return thresholds.Threshold(config.threshold, None, "given")
    if config.calibrate is None:
        return thresholds.measured_threshold(faces.faces[0].extractor, config.far)
    known = read_people(config.calibrate, config.extractor, device=device, progress=progress)
    check_alike(f"{faces.name} and {config.calibrate}", [faces.faces[0], *known.faces], verb="match")
    return thresholds.calibrated_threshold(known, people_of(known), config.far)


def _pairs(inputs: Sequence[Faces], limit: Threshold, most: int | None, progress: Progress) -> Matches:
    from facetools.embeddings.matching import MOST_PAIRS, nearest_pairs

    a, b = inputs[0], inputs[1] if inputs[1:] else None
    pairs = nearest_pairs(a, b, limit.distance, most=most or MOST_PAIRS, beyond=most is not None, progress=progress)
    note = ""
    if most is None and pairs.within > len(pairs.distances):
        note = spelled(
            f"the nearest {len(pairs.distances):,} of {pairs.within:,} pairs within {limit.distance:g}; "
            f"{param('most')} N for another number"
        )

    def records() -> Iterator[Record]:
        for first, second, apart in zip(pairs.first, pairs.second, pairs.distances, strict=True):
            one, two = a.faces[first], (b or a).faces[second]
            yield {
                "distance": float(apart),
                "same": bool(apart <= limit.distance),
                "path": one.item.path,
                "face": one.face,
                "path_b": two.item.path,
                "face_b": two.face,
                "relative": one.item.relative,
                "relative_b": two.item.relative,
            }

    count = len(a.faces) * len(b.faces) if b else len(a.faces) * (len(a.faces) - 1) // 2
    line = f"{sum(len(each.faces) for each in inputs):,} faces, {many(count, 'pair')}: {pairs.within:,} same, within "
    by_chance = "" if limit.far is None else f"; of as many pairs of different people {limit.far * count:,.0f} would be"
    return Matches(records(), f"{line}{limit.distance:.4g}{by_chance}", note)


def _people(inputs: Sequence[Faces], limit: Threshold, progress: Progress) -> Matches:
    import numpy as np

    from facetools.embeddings.clustering import cluster_faces
    from facetools.embeddings.matching import together

    everybody = together(inputs)
    people, apart = cluster_faces(everybody, limit.distance, progress=progress)
    sizes = np.bincount(people)

    def records() -> Iterator[Record]:
        for number in np.lexsort((apart, people)):
            face, alone = everybody.faces[number], bool(sizes[people[number]] == 1)
            fields: dict[str, Any] = {"distance": None if alone else float(apart[number])}
            fields |= {"person": int(people[number]), "faces": int(sizes[people[number]])}
            fields |= {"path": face.item.path, "face": face.face, "relative": face.item.relative}
            yield fields | ({"reason": "no other face of this person"} if alone else {})

    single = int((sizes == 1).sum())
    line = f"{many(len(people), 'face')}: {len(sizes) - single:,} people with several, {single:,} with one"
    return Matches(records(), line)
