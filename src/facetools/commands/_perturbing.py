"""What ``facetools perturb`` alone needs: its options, and the way from them to cloaked photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from _toolio.errors import UsageError
from facetools import attacks
from facetools.attacks import Method
from facetools.commands._shared import Faces, Format, check_names
from facetools.views import parse_views

if TYPE_CHECKING:
    from _toolio.streams.inputs import Item
    from _toolio.streams.records import Record
    from facetools.cloaking import Cloaker, Recipe, Saving
    from facetools.intake import Finished, Intake, Refusal
    from facetools.outputs import Output

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


def saving(file_format: Format, quality: int | None, strip_gps: bool, suffix: str, copy_faceless: bool) -> Saving:
    """Gather how photos are saved."""
    from facetools.cloaking import Saving

    kind = None if file_format is Format.keep else file_format.value.upper()
    return Saving(kind, quality, strip_gps, suffix, copy_faceless)


class Kitchen:
    """Where faces are found and cloaked: several at once, while the next photos are read."""

    def __init__(self, device: str, *, faces: str, min_face_px: float | None, batch: int) -> None:
        from _toolio.compute.device import pick_device, share_out

        self.device, self.faces, self._min_face = pick_device(device), faces, min_face_px
        self._workers, self._batch = share_out(self.device, batch)

    def recipe(
        self,
        method: Method,
        mode: str | None,
        knobs: Mapping[str, Any],
        extractors: list[str],
        views: str,
        targets: Sequence[Path] | None,
        seed: int,
        *,
        lpips_weights: Path | None,
        allow_download: bool,
    ) -> Recipe:
        """Open what the attack needs."""
        from facetools.cloaking import Recipe
        from facetools.extractors import open_extractors
        from facetools.targets import Targets
        from facetools.viewing import open_distance

        ensemble = open_extractors(extractors, self.device)
        people = Targets(targets, ensemble) if targets else None
        distance = open_distance(lpips_weights, allow_download=allow_download, device=self.device)
        chosen = mode or method.default_mode
        return Recipe(method, chosen, knobs, ensemble, distance, seed, parse_views(views), people)

    def _take_in(self, items: Iterable[Item], finished: Any = None) -> Iterator[Intake | Refusal | Finished]:
        from facetools.intake import take_in

        return take_in(items, self.device, faces=self.faces, min_face_px=self._min_face, finished=finished)

    def with_masks(
        self, recipe: Recipe, items: Iterable[Item], mask: Path | None, save_mask: Path | None, *, resume: bool
    ) -> Recipe:
        """Read masks, or make and save one for each person in the photos; ``resume`` takes those that are saved."""
        from _toolio.cli.app import tool_version
        from facetools.cloaking import make_mask
        from facetools.intake import Intake
        from facetools.masks import Masks, gather, save_masks

        about: dict[str, Any] = {"version": tool_version(), **recipe.describe()}
        about["extractors"] = {extractor.name: extractor.sha256 for extractor in recipe.extractors}
        if save_mask is not None and resume and save_mask.exists():
            saved = Masks(save_mask).about
            for key, value in about.items():
                if key != "version" and saved.get(key) != value:
                    raise UsageError(f"--save-mask {save_mask}: made with other {key}; use --force to make it anew")
        elif save_mask is not None:
            people = gather(each for each in self._take_in(items) if isinstance(each, Intake))
            if not people:
                raise UsageError("--save-mask: no face in any photo")
            masks_made = {person: make_mask(photos, person, recipe) for person, photos in people.items()}
            made = {person: mask for person, mask in masks_made.items() if mask is not None}
            if not made:
                raise UsageError("--save-mask: too little of any face is in the photos")
            save_masks(save_mask, made, about)
        source = mask or save_mask
        assert source is not None
        masks = Masks(source)
        # What a mask is made with stands in its file, whatever this run was told.
        made_with: dict[str, Any] = {key: masks.about[key] for key in ("mode", "knobs", "seed") if key in masks.about}
        made_with["views"] = tuple(masks.about.get("views", recipe.views))
        made_with["made_against"] = tuple(masks.about.get("extractors", ()))
        return replace(recipe, masks=masks, **made_with)

    def cloaker(self, recipe: Recipe, how: Saving, measure: list[str]) -> Cloaker:
        """Make a cloaker that also measures extractors that are not attacked."""
        from facetools.cloaking import Cloaker
        from facetools.extractors import open_extractors

        unseen = open_extractors(measure, self.device)
        if twice := {e.name for e in unseen} & {e.name for e in recipe.extractors}:
            raise UsageError(f"--measure {twice.pop()}: it is in the ensemble; name one that is not")
        return Cloaker(recipe, how, unseen=unseen, batch=self._batch)

    def cloak(
        self,
        cloaker: Cloaker,
        items: Iterable[Item],
        finished: Callable[[Item, Sequence[Record], bytes], Sequence[Record] | None],
    ) -> Iterator[tuple[Any, Output | None]]:
        """Cloak photos; give each input with its output, or with None where there was nothing to do, in order."""
        from _toolio.compute.threads import ordered
        from facetools.intake import Intake, in_groups

        def work(group: list[Any]) -> list[tuple[Any, Output | None]]:
            outputs = iter(cloaker.cloak([each for each in group if isinstance(each, Intake)]))
            return [(each, next(outputs) if isinstance(each, Intake) else None) for each in group]

        groups = in_groups(self._take_in(items, finished), self._batch)
        return chain.from_iterable(ordered(work, groups, workers=self._workers))
