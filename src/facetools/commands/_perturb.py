"""What ``facetools perturb`` alone needs: its options, and the way from them to cloaked photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from _toolio.errors import UsageError
from facetools.attacks import registry as attacks
from facetools.attacks.base import Method
from facetools.commands._options import Faces, check_names
from facetools.photos.formats import Format
from facetools.transforms.differentiable import parse_views

Mode = Annotated[
    str | None,
    typer.Option(metavar="MODE", help="How strong: a mode of the attack, listed with its knobs. Default: its own."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help=f"A knob of the attack; may be repeated. {attacks.list_knobs()}"),
]
Measure = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        metavar="NAME|FILE",
        callback=check_names,
        help="Another extractor, not attacked: how far it moves is in the record; may be repeated.",
    ),
]
TargetFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--targets",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Whom targeted attacks pull to: what `embed --faces largest` wrote for folders of people, one file an "
        "extractor. fawkes-v0.3 draws 1 person of the 20 farthest, tip-im 10.",
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
    typer.Option(metavar="FILE", help="Make a mask for each person, a folder of photos, and keep it (opom)."),
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
        help="JPEG, WebP or HEIF quality. Default: a JPEG's own; files that do not tell theirs get 95 (WebP) or 90 "
        "(HEIF).",
    ),
]
Suffix = Annotated[str, typer.Option(metavar="TEXT", callback=lambda text: _plain(text), help="Put behind each name.")]
StripGps = Annotated[bool, typer.Option("--strip-gps", help="Leave the place out of the EXIF.")]
CopyFaceless = Annotated[bool, typer.Option("--copy-faceless", help="Copy photos without a face.")]


def _plain(text: str) -> str:
    if "/" in text or "\\" in text or "\0" in text:
        raise typer.BadParameter(f"{text!r} is no part of a file's name")
    return text


def check(
    method: Method, *, targets: Sequence[Path] | None, mask: Path | None, save_mask: Path | None, given: Sequence[str]
) -> None:
    """Refuse options that the attack has no use for, and ask for those that it needs."""
    if method.targets and not targets:
        raise UsageError(
            f"--attack {method.name} needs --targets; `facetools embed --in people/ --out FILE` makes them"
        )
    if targets and not method.targets:
        raise UsageError(f"--targets: {method.name} pulls to nobody; leave it out")
    if mask and save_mask:
        raise UsageError("--mask and --save-mask: the one applies masks, the other makes them; leave one out")
    if method.per_person and not (mask or save_mask):
        raise UsageError(f"--attack {method.name} needs --save-mask FILE to make masks, or --mask FILE to apply them")
    if not method.per_person and (mask or save_mask):
        raise UsageError(f"--mask and --save-mask: {method.name} makes no masks; leave them out")
    if mask and given:
        raise UsageError(f"{given[0]}: the masks are made already; leave it out with --mask")


def usual_faces(method: Method) -> Faces:
    """Whose faces an attack is meant for: a person's mask is for that person, and not for who stands beside."""
    return Faces.largest if method.per_person else Faces.all
