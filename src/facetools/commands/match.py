"""The command ``facetools match``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.messages import note
from _toolio.cli.progress import track
from _toolio.errors import ToolError, UsageError
from _toolio.sharding.folder import markers_in
from _toolio.streams.inputs import STDIN
from _toolio.streams.records import Order, RecordWriter
from facetools.commands._options import ExtractorOption
from facetools.embeddings.match_records import SCHEMA, MatchConfig, find_matches
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.extractors.factory import DEFAULT

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


def refuse_folder(name: str) -> None:
    """Raise ToolError for a folder of photos or of shards, with the line that makes of it what can be read."""
    if not Path(name).is_dir() or is_folder_of_parts(name):
        return
    if markers_in(Path(name)):
        raise ToolError(
            f"{name}: is a folder of shards; gather them: `facetools gather {shlex.quote(name)} | facetools match`",
            kind="embeddings",
        )
    stem = Path(name).resolve().name or "photos"
    out, records = (shlex.quote(f"{stem}.{ending}") for ending in ("safetensors", "jsonl"))
    raise ToolError(
        f"{name}: is a folder; embed its photos first: `facetools embed {shlex.quote(name)} --out {out} > {records}`, "
        f"and name {out}",
        kind="embeddings",
    )


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
    if [*names, calibrate].count(STDIN) > 1:
        raise UsageError("- can be given once: stdin is read once")
    if STDIN in names and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no input: name a file of embeddings, or pipe what `facetools embed` writes")
    config = MatchConfig(
        far=far, threshold=threshold, calibrate=calibrate, extractor=extractor, most=most, cluster=cluster
    )
    config.check()
    for name in names:
        refuse_folder(name)
    with RecordWriter(SCHEMA, "distance", COLUMNS, order=Order.made if cluster else Order.lowest) as writer:
        found = find_matches(names, config, device=device, progress=track)
        if found.note:
            note("facetools", found.note)
        for fields in found.records:
            writer.emit(fields)
        writer.sum_up(found.summary)
        return writer.exit_code


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
