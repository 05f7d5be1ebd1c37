"""Options of ``facetools perturb`` alone, and checks of what they were given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.messages import note
from _toolio.cli.options import completion
from _toolio.errors import UsageError, param
from _toolio.files.journal import first_arguments
from _toolio.files.overwriting import refuse_existing
from _toolio.streams.records import Record, has_failed
from _toolio.words import many
from facetools.attacks import registry as attacks
from facetools.attacks.base import Method
from facetools.commands import _complete
from facetools.commands._options import Faces, check_names
from facetools.photos.formats import Format
from facetools.pictures.contact_sheet import uncloaked_reason
from facetools.transforms.differentiable import parse_views

Mode = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        autocompletion=completion(_complete.modes),
        help="Mode of the attack, which sets its strength; listed with its knobs. Default: its own.",
    ),
]
Knobs = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KNOB=VALUE",
        autocompletion=completion(_complete.knobs),
        help=f"A knob of the attack; may be repeated. {attacks.list_knobs()}",
    ),
]
Measure = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        metavar="NAME|FILE",
        callback=check_names,
        autocompletion=completion(_complete.extractors),
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
        autocompletion=completion(_complete.views),
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
UntilMoved = Annotated[
    float | None,
    typer.Option(
        metavar="DISTANCE",
        callback=options.finite,
        help="Stop where moved, on what is saved, has reached this cosine distance, say 0.3.",
    ),
]
UntilHidden = Annotated[
    bool, typer.Option("--until-hidden", help="Stop where one of --others is nearer than the person's own clean face.")
]
OtherPeople = Annotated[
    list[Path] | None,
    typer.Option(
        "--others",
        metavar="FOLDER|FILE",
        exists=True,
        help="Other people: folders of their photos, or what embed made of them, one file an extractor; repeatable.",
    ),
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
FacesFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Faces to cloak beside those that are found: JSON lines of path, and box or landmarks.",
    ),
]
Preview = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw every photo with its faces, cloaked or not, as PNG; FILE-2.png and so on."),
]
CopyFaceless = Annotated[bool, typer.Option("--copy-faceless", help="Copy photos without a face.")]


def note_other_attack(out: Path, attack: str) -> None:
    """Note on stderr a folder that another attack has written to: files of both look alike."""
    before = first_arguments(out, "facetools-perturb").get("attack")
    if before not in (None, attack):
        note(
            "facetools",
            f"{out}: holds copies of --attack {before} too; give --attack {attack} a folder of its own with --out",
        )


def refuse_no_targets(method: Method, targets: Sequence[Path] | None) -> None:
    """Raise UsageError, with the lines that make targets, for an attack that pulls to people and has none."""
    if method.targets and not targets:
        raise UsageError(
            f"--attack {method.name} needs --targets, other people to pull to; of a folder of photos a person: "
            "`facetools embed --faces largest others/ --out others.safetensors > others.jsonl`, then "
            "--targets others.safetensors"
        )


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


class Summary:
    """Numbers of photos and of faces, cloaked or not, and why not."""

    def __init__(self) -> None:
        self._photos = self._faces = self._faceless = self._failed = self._short = 0
        self._reasons: Counter[str] = Counter()

    def add(self, records: Sequence[Record]) -> None:
        """Count one input by its records."""
        if any(map(has_failed, records)):
            self._failed += 1
            return
        faces = [record for record in records if record.get("face") is not None]
        others = len(records[0].get("others") or ())
        self._photos += 1
        self._faceless += not faces
        self._faces += len(faces) + others
        self._short += sum(record.get("reached") is False for record in faces)
        self._reasons["another face was chosen"] += others
        for record in faces:
            if reason := uncloaked_reason(record):
                self._reasons[reason.partition(";")[0]] += 1

    def line(self) -> str:
        """Return one line: photos, faces cloaked and not and why, photos without a face, failed inputs."""
        not_cloaked = self._reasons.total()
        line = f"{many(self._photos, 'photo')}, {many(self._faces, 'face')}: {self._faces - not_cloaked:,} cloaked"
        if not_cloaked:
            why = ", ".join(f"{count:,} {reason}" for reason, count in self._reasons.most_common() if count)
            line += f", {not_cloaked:,} not ({why})"
        if self._short:
            line += f"; {many(self._short, 'face')} short of the goal when all steps were taken"
        if self._faceless:
            line += f"; {many(self._faceless, 'photo')} without a face"
        return line + (f"; {self._failed:,} failed" if self._failed else "")
