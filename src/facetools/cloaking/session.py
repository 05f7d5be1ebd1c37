"""A cloaking session: inputs in, cloaked photos and their records out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.cli.progress import track
from _toolio.errors import UsageError
from _toolio.streams.inputs import Item
from _toolio.streams.records import RecordWriter
from facetools.attacks import registry as attacks
from facetools.attacks.base import Method
from facetools.cloaking import cloaker as cloaking
from facetools.photos.formats import Format
from facetools.transforms.differentiable import parse_views

if TYPE_CHECKING:
    from _toolio.streams.records import Record
    from facetools.cloaking.cloaker import Cloaker, Saving
    from facetools.cloaking.engine import Recipe
    from facetools.intake import Finished, Intake, Refusal
    from facetools.outputs import Output


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
        from facetools.cloaking.engine import Recipe
        from facetools.cloaking.targets import Targets
        from facetools.extractors.factory import open_extractors
        from facetools.perceptual.distance import open_distance

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
        from facetools.cloaking.engine import make_mask
        from facetools.cloaking.person_masks import Masks, gather, save_masks
        from facetools.intake import Intake

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
        from facetools.cloaking.cloaker import Cloaker
        from facetools.extractors.factory import open_extractors

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


class _Unprinted(RecordWriter):
    """Hands on what went wrong, and prints nothing else: cloaks made on the way are no output."""

    def __init__(self, behind: RecordWriter) -> None:
        super().__init__("facetools.perturb/1", "moved", ())
        self._behind = behind

    def emit(self, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> None:
        if "error" in self.complete(fields, through=through):
            self._behind.emit(fields)

    def pass_on(self, record: Mapping[str, Any]) -> None:
        self.emit(record)


def make_cloaks(
    name: str, items: Sequence[Item], folder: Path, writer: RecordWriter, *, extractor: str, device: str,
    faces: str, min_face_px: float | None, seed: int, resume: bool, force: bool,
) -> None:  # fmt: skip
    """Cloak photos into a folder with an attack against an extractor, losslessly, as ``facetools perturb`` does."""
    from facetools.outputs import PhotoFolder

    method, mode = attacks.find(name.partition(":")[0]), name.partition(":")[2] or None
    knobs = attacks.parse_knobs(method, mode, [])
    kitchen = Kitchen(device, faces=faces, min_face_px=min_face_px, batch=8)
    recipe = kitchen.recipe(method, mode, knobs, [extractor], "", None, seed, lpips_weights=None, allow_download=False)
    cloaker = kitchen.cloaker(recipe, cloaking.saving(Format.png, None, False, "", False), [])
    arguments = {**cloaker.arguments, "faces": kitchen.faces, "min_face": min_face_px}
    unprinted = _Unprinted(writer)
    with PhotoFolder(folder, "facetools-train-robust", arguments, resume=resume, force=force) as outputs:
        cloaked = kitchen.cloak(cloaker, items, outputs.finished)
        for intake, output in track(cloaked, f"cloaking: {name}", len(items)):
            if output is not None:
                outputs.deliver(unprinted, intake, [output])
