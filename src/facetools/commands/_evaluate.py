"""What ``facetools evaluate`` alone needs: its options, checks of them, and the line that makes a record again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli.options import finite
from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import STDIN
from facetools.commands._options import OneFace, check_names
from facetools.evaluation.request import END_TO_END, TWO_MODELS, Asked
from facetools.extractors.factory import DEFAULT, check_named

GalleryOption = Annotated[
    str, typer.Option(metavar="PATH", help="Clean photos of people, a folder or .tar, or their embeddings.")
]
CloakedOption = Annotated[
    list[str],
    typer.Option(
        metavar="PATH", help="The same photos, cloaked, or their embeddings. Several, oldest first: see above."
    ),
]
Extractors = Annotated[
    list[str] | None,
    typer.Option(
        "--extractor",
        metavar="NAME|FILE",
        callback=check_names,
        help="What embeds photos; repeatable. Default: dlib-resnet.",
    ),
]
Robust = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        callback=lambda name: None if name is None else check_named("--robust", name),
        help="The robust extractor of top2 and threshold.",
    ),
]
Preprocesses = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="What the trainer does to all photos once faces are found: none, jpeg:75, resize:0.5, blur:1; repeatable. "
        "Default: none.",
    ),
]
Protected = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="Whom to protect, one at a time; repeatable. all: everybody who has cloaks."),
]
Fraction = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1.0,
        callback=finite,
        help="Share of a person's training photos that is cloaked, rounded, one at least; which ones is drawn.",
    ),
]
Split = Annotated[
    float,
    typer.Option(
        min=0.05,
        max=0.95,
        callback=finite,
        help="Share of each person's photos that is trained on; the rest, rounded down but one at least, is asked.",
    ),
]
Folds = Annotated[int, typer.Option(min=1, max=100, help="More than 1: ask each photo in one of so many splits.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="JSONL with relative and person. Default: the nearest folder above a photo that is not called face "
        "names the person.",
    ),
]
Epochs = Annotated[int, typer.Option(min=1, help="e2e: passes over the training photos.")]
LearningRate = Annotated[
    float,
    typer.Option(
        "--learning-rate", "--lr", min=1e-8, max=1.0, callback=finite, help="e2e: peak of the one-cycle schedule."
    ),
]
Faces = Annotated[
    OneFace | None,
    typer.Option(help="Whose face a photo is: the one with the largest box, or nearest the middle. Default: largest."),
]
DropMissing = Annotated[
    bool, typer.Option("--drop-missing", help="Leave training photos out that have no cloaked copy, of the floor too.")
]


def check(asked: Asked) -> None:
    """Check what was asked for, before anything heavy is imported.

    Raises
    ------
    UsageError
        Options do not go together.
    ToolError
        An input does not exist.
    """
    from facetools.evaluation.gallery_sources import holds_photos

    for option, name in (("--gallery", asked.gallery), *(("--cloaked", each) for each in asked.cloaked)):
        if not name or "\0" in name:
            raise UsageError(f"{option}: is empty; name a folder, a .tar or embeddings")
        if name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")):
            raise UsageError(f"{option} {name}: of archives .tar is read, and no packed one; unpack it first")
    for name in asked.inputs:
        _check_exists(name)
    _refuse_same_inputs(asked)
    photos = [holds_photos(name) for name in asked.inputs]
    if any(photos) and not all(photos):
        raise UsageError(
            f"{asked.inputs[photos.index(False)]}: no photos, but {asked.inputs[photos.index(True)]} has them; "
            "give folders or .tar files alone, or embeddings alone"
        )
    needy = [name for name in asked.classifiers if name in TWO_MODELS]
    if needy and asked.robust is None:
        raise UsageError(f"--classifier {needy[0]}: needs a robust extractor; name its file with --robust")
    if not photos[0]:
        _refuse_for_embeddings(asked)
    if asked.robust is not None and not needy:
        raise UsageError(f"--robust {asked.robust}: only {' and '.join(TWO_MODELS)} ask it; give --classifier top2")
    if asked.robust in (asked.extractors or [DEFAULT]):
        raise UsageError(f"--robust {asked.robust}: is the --extractor too; name two different ones")
    _ = asked.steps


def _refuse_same_inputs(asked: Asked) -> None:
    """Refuse one input in two places, under whatever name, and cloaked photos among the clean ones."""
    if asked.inputs.count(STDIN) > 1:
        raise UsageError("--gallery and --cloaked: - can be given once")
    gallery, seen = os.path.realpath(asked.gallery), dict[str, str]()
    for name in asked.cloaked:
        if name == STDIN:
            continue
        place = os.path.realpath(name)
        if (first := seen.setdefault(place, name)) is not name or asked.cloaked.count(name) > 1:
            raise UsageError(f"--cloaked {name}: given twice{f', also as {first}' if first != name else ''}")
        if asked.suffix or asked.gallery == STDIN:
            continue
        if place == gallery:
            raise UsageError(
                f"--cloaked {name}: is the --gallery; name the cloaked copies (photos beside their cloaked copies need "
                "--suffix)"
            )
        _refuse_nested(asked.gallery, name)


def _refuse_nested(gallery: str, cloaked: str) -> None:
    """Refuse a folder in the other: its photos would be on both sides, under two names."""
    outer, inner = (Path(os.path.realpath(name)) for name in (gallery, cloaked))
    hint = "name two folders that lie apart, or tell cloaked photos by --suffix"
    if outer.is_dir() and inner.is_dir():
        if inner.is_relative_to(outer):
            raise UsageError(f"--cloaked {cloaked}: lies in --gallery {gallery}; {hint}")
        if outer.is_relative_to(inner):
            raise UsageError(f"--gallery {gallery}: lies in --cloaked {cloaked}; {hint}")


def _check_exists(name: str) -> None:
    try:
        if name != STDIN:
            Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ToolError(f"{name}: no such file or folder", kind="missing") from None
    except OSError as error:
        raise ToolError(f"{name}: {error.strerror}; name another file or folder", kind="unreadable") from None


def _refuse_for_embeddings(asked: Asked) -> None:
    """Refuse options that only photos need."""
    if END_TO_END in asked.classifiers:
        raise UsageError("--classifier e2e: learns from photos, not from embeddings; give folders of photos")
    made = (("--extractor", asked.extractors), ("--robust", asked.robust), ("--preprocess", asked.preprocess))
    for option, given in made:
        if given:
            raise UsageError(f"{option}: embeddings cannot be made anew; give folders of photos")
    found = (("--faces", asked.faces), ("--crops", asked.crops or None), ("--min-face", asked.min_face))
    for option, value in found:
        if value is not None:
            raise UsageError(f"{option}: faces are found in photos, not in embeddings; give it to `facetools embed`")
