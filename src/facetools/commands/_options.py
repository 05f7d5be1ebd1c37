"""Options that several commands on photos share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli.options import completion, finite
from facetools.commands import _complete
from facetools.extractors.factory import check_extractor
from facetools.faces.search import FaceSearch


def check_name(option: typer.CallbackParam, name: str | None) -> str | None:
    """Check that an extractor is built in or a file, before anything heavy is imported."""
    if name is not None:
        check_extractor(name, option.name or "extractor")
    return name


def check_names(option: typer.CallbackParam, names: list[str] | None) -> list[str] | None:
    """Do so for several extractors."""
    for name in names or ():
        check_name(option, name)
    return names


class Faces(StrEnum):
    """Which faces of a photo are worked on."""

    all = "all"
    largest = "largest"
    central = "central"


class LookedAt(StrEnum):
    """What of a photo is looked at."""

    all = "all"
    largest = "largest"
    central = "central"
    whole_photo = "whole-photo"


class OneFace(StrEnum):
    """Which face of a photo is the person's."""

    largest = "largest"
    central = "central"


FacesOption = Annotated[
    Faces,
    typer.Option(
        "--faces",
        help="Every face of a photo, the one with the largest box, or that nearest the middle; no doubtful one.",
    ),
]
LookedAtOption = Annotated[
    LookedAt,
    typer.Option(
        "--faces",
        help="Every face of a photo, the one with the largest box, or that nearest the middle. whole-photo: search for "
        "none and look at all of the picture, whatever it shows; --crops takes it for an aligned face.",
    ),
]
OneFaceOption = Annotated[
    OneFace, typer.Option("--faces", help="Whose face a photo is: the one with the largest box, or nearest the middle.")
]
MinFace = Annotated[
    float | None,
    typer.Option(
        min=12.0,
        metavar="PIXELS",
        callback=finite,
        help="Smallest face to search for. Default: 20, and more in large photos: a fortieth of the longer side, or a "
        "twenty-fourth of the shorter if that is less.",
    ),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        callback=finite,
        metavar="PROBABILITY",
        help="Least confidence of a face that counts. Default: 0.7.",
    ),
]
Rotations = Annotated[
    bool,
    typer.Option(
        "--rotations",
        help="Search every photo turned by 90, 180 and 270 degrees too. Without it only those in which no sure face "
        "is found.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        callback=finite,
        help="Label a face cloaked from this score on, instead of by --false-alarms or --clean-scores.",
    ),
]
MostFalseAlarms = Annotated[
    float | None,
    typer.Option(
        "--false-alarms",
        min=0,
        max=0.5,
        metavar="SHARE",
        callback=finite,
        help="Share of clean faces that may be labelled cloaked: the next lower one of those that the detector has "
        "(installed: 0.002 to 0.1), and with --clean-scores any that these can tell. Default: its own; 0.005.",
    ),
]
CloakSuffix = Annotated[str, typer.Option("--suffix", metavar="TEXT", help="What the names of cloaked photos add.")]
HeldOut = Annotated[
    float, typer.Option(min=0.01, max=0.9, callback=finite, help="Share of people kept for the figures.")
]
ExtractorOption = Annotated[
    str,
    typer.Option(
        "--extractor",
        metavar="NAME|FILE",
        callback=check_name,
        autocompletion=completion(_complete.extractors),
        help="The extractor: a built-in one, or a file.",
    ),
]


Ensemble = Annotated[
    list[str],
    typer.Option(
        "--extractor",
        metavar="NAME|FILE",
        callback=check_names,
        autocompletion=completion(_complete.extractors),
        help="An extractor to work against; repeated, they are an ensemble.",
    ),
]
Crops = Annotated[
    bool, typer.Option("--crops", help="Inputs are aligned crops: each is all face, and faces are not searched for.")
]
LpipsWeights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="AlexNet's weights for LPIPS. Default: torchvision's cache; without them multi-scale DSSIM.",
    ),
]
AllowDownload = Annotated[bool, typer.Option("--allow-download", help="Let torchvision download AlexNet's weights.")]


def face_search(
    faces: StrEnum,
    min_face: float | None,
    min_confidence: float | None,
    *,
    rotations: bool,
    crops: bool = False,
) -> FaceSearch:
    """Return what --faces, --crops, --min-face, --min-confidence and --rotations say together."""
    return FaceSearch("crop" if crops else faces.value, min_face, min_confidence, rotations)
