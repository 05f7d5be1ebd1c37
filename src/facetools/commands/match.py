"""The command ``facetools match``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.errors import UsageError, param
from _toolio.streams.inputs import STDIN
from _toolio.streams.records import Order, RecordWriter
from _toolio.words import many
from facetools.commands._options import ExtractorOption
from facetools.extractors.factory import DEFAULT

if TYPE_CHECKING:
    from facetools.embeddings.matching import Faces
    from facetools.embeddings.thresholds import Threshold

SCHEMA = "facetools.match/1"
COLUMNS = ("same", "person", "faces", "path", "face", "path_b", "face_b", "reason")

Far = Annotated[
    float,
    typer.Option(
        min=1e-9,
        max=0.5,
        callback=options.finite,
        metavar="RATE",
        help="False accept rate: share of pairs of different people that are called same. 0.001 or 0.0001 where it was "
        "measured, any with --calibrate.",
    ),
]
Distance = Annotated[
    float | None,
    typer.Option(
        "--threshold", min=0, callback=options.finite, metavar="DISTANCE", help="Largest distance of one person."
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="PEOPLE",
        help="Measure the threshold on other people: photos in a folder a person, or their embeddings.",
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="The N nearest pairs, same or not. Default: all within the threshold, up to a million.",
    ),
]


def match(
    embeddings: Annotated[
        str, typer.Argument(metavar="[EMBEDDINGS]", help="A file of embed, or its records. Default: - for stdin.")
    ] = STDIN,
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another: pairs are of one face of each.")
    ] = None,
    far: Far = 1e-4,
    threshold: Distance = None,
    calibrate: Calibrate = None,
    extractor: ExtractorOption = DEFAULT,
    most: Most = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="One record a face, with the number of its person.")
    ] = False,
    device: options.Device = "auto",
) -> int:
    """Find photos of the same person.

    One record a pair of faces, nearest first: of two faces of EMBEDDINGS, or of one of EMBEDDINGS and one of OTHER. Two
    faces are the same person's up to a threshold, which was measured for the extractor on LFW at a false accept rate
    (--far): of a million pairs of different people there, 0.0001 calls a hundred same. Of other photos it can call many
    more: --calibrate measures it on people of your own.

    With --cluster one record a face instead, of both files together: who is in it, by a number. The two groups that
    are nearest in the mean of all their pairs become one, until none are within the threshold (average linkage).

    --extractor is what embeds photos of --calibrate.
    """
    names = [embeddings, *([other] if other is not None else [])]
    _check(names, threshold, calibrate, most, cluster=cluster)
    with RecordWriter(SCHEMA, "distance", COLUMNS, order=Order.made if cluster else Order.lowest) as writer:
        from facetools.embeddings.matching import read_embedded

        inputs = read_embedded(names)
        limit = _threshold(inputs[0], far, threshold, calibrate, extractor, device)
        about = {"threshold": limit.distance, "far": limit.far, "threshold_source": limit.source}
        about["extractor"] = inputs[0].faces[0].extractor["name"]
        found = _people(inputs, limit, writer) if cluster else _pairs(inputs, limit, most, writer)
        for fields in found:
            writer.emit({**fields, **about})
        return writer.exit_code


def _check(
    names: list[str], threshold: float | None, calibrate: str | None, most: int | None, *, cluster: bool
) -> None:
    if [*names, calibrate].count(STDIN) > 1:
        raise UsageError("- can be given once: stdin is read once")
    if STDIN in names and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no input: name a file of embeddings, or pipe what `facetools embed` writes")
    if threshold is not None and calibrate is not None:
        raise UsageError(f"{param('threshold')} and {param('calibrate')}: give one of them")
    if cluster and most is not None:
        raise UsageError(f"{param('cluster')} and {param('most')}: give one of them; people are of all pairs")


def _threshold(
    faces: Faces, far: float, threshold: float | None, calibrate: str | None, extractor: str, device: str
) -> Threshold:
    from facetools.embeddings import thresholds
    from facetools.embeddings.people import people_of, read_people
    from facetools.embeddings.records import check_alike

    if threshold is not None:
        return thresholds.Threshold(threshold, None, "given")
    if calibrate is None:
        return thresholds.measured_threshold(faces.faces[0].extractor, far)
    known = read_people(calibrate, extractor, device=device, progress=track)
    check_alike(f"{faces.name} and {calibrate}", [faces.faces[0], *known.faces], verb="match")
    return thresholds.calibrated_threshold(known, people_of(known), far)


def _pairs(inputs: list[Faces], limit: Threshold, most: int | None, writer: RecordWriter) -> Iterator[dict[str, Any]]:
    """Yield the fields of a record a pair; sum up."""
    from facetools.embeddings.matching import MOST_PAIRS, nearest_pairs

    a, b = inputs[0], inputs[1] if inputs[1:] else None
    pairs = nearest_pairs(a, b, limit.distance, most=most or MOST_PAIRS, beyond=most is not None, progress=track)
    if most is None and pairs.within > len(pairs.distances):
        sys.stderr.write(
            f"facetools: note: the nearest {len(pairs.distances):,} of {pairs.within:,} pairs within "
            f"{limit.distance:g}; --most N for another number\n"
        )
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
    writer.sum_up(f"{line}{limit.distance:.4g}{by_chance}")


def _people(inputs: list[Faces], limit: Threshold, writer: RecordWriter) -> Iterator[dict[str, Any]]:
    """Yield the fields of a record a face, person by person; sum up."""
    import numpy as np

    from facetools.embeddings.clustering import cluster_faces
    from facetools.embeddings.matching import together

    everybody = together(inputs)
    people, apart = cluster_faces(everybody, limit.distance, progress=track)
    sizes = np.bincount(people)
    for number in np.lexsort((apart, people)):
        face, alone = everybody.faces[number], bool(sizes[people[number]] == 1)
        fields = {"distance": None if alone else float(apart[number]), "person": int(people[number])}
        fields |= {"faces": int(sizes[people[number]]), "path": face.item.path, "face": face.face}
        fields |= {"relative": face.item.relative}
        yield fields | ({"reason": "no other face of this person"} if alone else {})
    single = int((sizes == 1).sum())
    writer.sum_up(f"{many(len(people), 'face')}: {len(sizes) - single:,} people with several, {single:,} with one")


PAGE = Page(
    fields={
        "distance": "Between the two embeddings, cosine or Euclidean, as the extractor has it. With --cluster the mean "
        "distance to the other faces of this person; null where there is none.",
        "same": "Whether it is within the threshold.",
        "path": "The photo of the first face.",
        "face": "Number of the face in its photo, from 0, largest first.",
        "path_b": "The photo of the second face.",
        "face_b": "Its number there.",
        "relative": "The first photo's path below its input.",
        "relative_b": "The second photo's.",
        "person": "With --cluster: number of the person, from 0; who has most faces is first.",
        "faces": "With --cluster: how many faces this person has.",
        "threshold": "The largest distance that is called same.",
        "far": "The false accept rate of the threshold; null with --threshold.",
        "threshold_source": "What the threshold was measured on.",
        "extractor": "The extractor of the embeddings.",
        "reason": "Why there is no distance.",
    },
    examples=(
        (
            "facetools embed photos/ --out photos.safetensors > photos.jsonl\n"
            "facetools match photos.safetensors --cluster > people.jsonl",
            "Who is in which photos.",
        ),
        (
            "facetools embed photos/ --out photos.safetensors > photos.jsonl\n"
            "facetools embed people/ --out people.safetensors > people.jsonl\n"
            "facetools match photos.safetensors people.safetensors > same.jsonl",
            "The same person in two folders.",
        ),
        (
            "facetools embed photos/ --out photos.safetensors | facetools match --most 3",
            "The three pairs of faces that are most alike, whoever they are of.",
        ),
    ),
)
