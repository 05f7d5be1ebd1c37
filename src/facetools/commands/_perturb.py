"""Options of ``facetools perturb`` alone, and checks of what they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.errors import UsageError, param
from _toolio.files.overwriting import refuse_existing
from facetools.attacks import registry as attacks
from facetools.commands._options import Faces, check_names
from facetools.photos.formats import Format
from facetools.transforms.differentiable import parse_views

Mode = Annotated[
    str | None,
    typer.Option(
        metavar="MODE", help="Mode of the attack, which sets its strength; listed with its knobs. Default: its own."
    ),
]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help=f"A knob of the attack; may be repeated. {attacks.list_knobs()}"),
]
Measure = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        metavar="NAME|FILE",
        callback=check_names,
        help="Another extractor, measured but not attacked; may be repeated.",
    ),
]
TargetFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--targets",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="People that targeted attacks pull to: embeddings of `embed --faces largest` of folders of people, one "
        "file an extractor. fawkes-v0.3 draws 1 person at random from the 20 farthest, tip-im 10.",
    ),
]
Views = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        callback=lambda text: text and ",".join(parse_views(text)),
        help="Optimise through random views, so that the cloak survives uploads: jpeg, resize, blur, crop; commas.",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Apply the masks of this file (opom)."),
]
SaveMask = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Make a mask for each person, a folder of photos, and save it (opom)."),
]
WhichFaces = Annotated[
    Faces | None,
    typer.Option(
        "--faces",
        help="Every face, the one with the largest box, or that nearest the middle. Default: all; largest for attacks "
        "that make one mask a person.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Keep the photo's own format, or write another.")]
Quality = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="JPEG, WebP or HEIF quality. Default: a JPEG's own; files that do not record theirs get 95 (WebP) or 90 "
        "(HEIF).",
    ),
]
Suffix = Annotated[str, typer.Option(metavar="TEXT", callback=lambda text: _plain(text), help="Added to each name.")]
StripGps = Annotated[bool, typer.Option("--strip-gps", help="Remove GPS tags from the EXIF.")]
CopyFaceless = Annotated[bool, typer.Option("--copy-faceless", help="Copy photos without a face.")]


def _plain(text: str) -> str:
    if "/" in text or "\\" in text or "\0" in text:
        raise typer.BadParameter(f"{text!r} is no part of a file's name")
    return text


def check_mask_file(path: Path, shard: tuple[int, int], *, resume: bool, force: bool) -> None:
    """Refuse a file of masks that exists and is not resumed, or that a part of the photos would make."""
    if not (resume and path.exists()):
        refuse_existing(path, force=force, named=param("save_mask"))
    if shard != (1, 1):
        raise UsageError("--save-mask: a mask is made from all photos; make it without --shard, then use --mask")
