"""Run an attack on face regions and add the change back to the photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from _toolio.files.hashing import text_digest
from facetools.attacks.base import Method
from facetools.cloaking.goals.goal import Goal
from facetools.cloaking.goals.stopping import FaceGoal
from facetools.cloaking.person_masks import SIDE_PX, Masks, PersonPhotos, mask_matrix
from facetools.cloaking.region_view import RegionView
from facetools.cloaking.regions import Region, cut_out, enlarge_change, fade_mask, locate_region
from facetools.cloaking.targets import Targets
from facetools.embeddings.chips import embed_face
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.perceptual.distance import Distance
from facetools.photos.photo import Pixels, add_change

_PIXELS_PER_STRIP = 500_000
"""Of a photo to which changes are added at a time: 50 MB."""


def seed_of(seed: int, digest: str, face: int) -> int:
    """Derive a face's seed from the run's seed and the photo's digest, independent of order and batch."""
    drawn = text_digest(f"{seed} {digest} {face}")
    return int.from_bytes(drawn[:8], "little") >> 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """An attack with everything that it needs.

    Attributes
    ----------
    method, mode, knobs
        The attack, from ``facetools.attacks``.
    extractors
        The ensemble that is attacked.
    distance
        The perceptual distance in its objective.
    seed
        Of the run.
    views
        Names of the random views that it optimises through.
    targets, masks
        The people that a targeted attack pulls to; the masks of an attack that makes one a person.
    made_against
        Names of the ensemble that the masks were made against, where that is another.
    goal
        What a face must reach for its attack to stop; None: all steps are taken.
    """

    method: Method
    mode: str | None
    knobs: Mapping[str, Any]
    extractors: Sequence[Extractor]
    distance: Distance
    seed: int
    views: tuple[str, ...] = ()
    targets: Targets | None = None
    masks: Masks | None = None
    made_against: tuple[str, ...] = ()
    goal: Goal | None = None

    def describe(self) -> dict[str, Any]:
        """Return the fields of a record that describe it."""
        return {
            "attack": self.method.name,
            "mode": self.mode,
            "extractors": list(self.made_against or (extractor.name for extractor in self.extractors)),
            "knobs": self.method.recorded(self.knobs),
            "views": list(self.views),
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Job:
    """One face to cloak.

    Attributes
    ----------
    pixels, face
        uint8 [H, W, 3], and the face in it.
    seed
        Of this face.
    person
        Whose photo it is.
    mask
        float32 [3, S, S], for an attack that makes one mask a person.
    others
        For each extractor float [K, D], the people that the recipe's goal hides it among.
    as_saved
        Returns changed pixels as they are after encoding and decoding; None: as they are.
    """

    pixels: Pixels
    face: Face
    seed: int
    person: str = ""
    mask: torch.Tensor | None = None
    others: Sequence[torch.Tensor] = ()
    as_saved: Callable[[Pixels], Pixels] | None = None


@dataclass(slots=True)
class Done:
    """The attacked region of one face.

    Attributes
    ----------
    region
        None where too little of the face is in the photo.
    change
        float32 [height, width, 3], -255 to 255; None without a region.
    seconds
        Its share of the batch's time.
    aims
        Names of the people that it was pulled to.
    steps
        After which the face had reached its goal; None: it had not.
    """

    region: Region | None
    change: Any = None
    seconds: float = 0.0
    aims: list[str] = field(default_factory=list)
    steps: int | None = None


def cloak_faces(jobs: Sequence[Job], recipe: Recipe) -> list[Done]:
    """Attack faces as one batch; memory grows with their number, and not with their photos' size."""
    done = [Done(locate_region(job.pixels, job.face, recipe.extractors)) for job in jobs]
    live = [(job, result.region, result) for job, result in zip(jobs, done, strict=True) if result.region is not None]
    if not live:
        return done
    start = time.perf_counter()
    device = recipe.extractors[0].device
    clean = [cut_out(job.pixels, region, device) for job, region, _ in live]
    regions, seeds = [region for _, region, _ in live], [job.seed for job, _, _ in live]
    view = RegionView(
        recipe.extractors,
        regions,
        clean,
        distance=recipe.distance,
        seeds=seeds,
        views=recipe.views,
        mask_matrices=_mask_matrices(live) if recipe.method.per_person else (),
        goals=[] if recipe.method.per_person else _face_goals([(job, region) for job, region, _ in live], recipe),
    )
    if recipe.targets is not None:
        aims = _aim(view, [job for job, _, _ in live], recipe)
        for (_, _, result), names in zip(live, aims, strict=True):
            result.aims = names
    if recipe.method.per_person:
        cloaked = view.lay([job.mask for job, _, _ in live if job.mask is not None])
    else:
        cloaked = recipe.method.function(view, view.clean, seeds=seeds, **recipe.knobs)
    if view.stopping is not None:
        cloaked = torch.cat([cloaked[n : n + 1] if own is None else own for n, own in enumerate(view.stopping.results)])
        for (_, _, result), steps in zip(live, view.stopping.steps, strict=True):
            result.steps = steps
    cloaked = view.faded(cloaked)
    for number, (_, region, result) in enumerate(live):
        result.change = _change(cloaked[number], view.clean[number], region)
    for _, _, result in live:
        result.seconds = (time.perf_counter() - start) / len(live)
    return done


def _change(cloaked: torch.Tensor, clean: torch.Tensor, region: Region) -> Any:
    """Return the change of a padded region, float32 [3, H, W] in [0, 1], at the photo's size: ``Done.change``."""
    height, width = region.work_size
    return enlarge_change((cloaked - clean)[None, :, :height, :width], region)


def _face_goals(faces: Sequence[tuple[Job, Region]], recipe: Recipe) -> list[FaceGoal]:
    """Return the goal of each face; none if the recipe has none."""
    return [] if recipe.goal is None else [_face_goal(job, region, recipe.goal, recipe) for job, region in faces]


def _face_goal(job: Job, region: Region, goal: Goal, recipe: Recipe) -> FaceGoal:
    device = recipe.extractors[0].device
    clean, fade = cut_out(job.pixels, region, device)[0], fade_mask(region, device)[0]

    def saved(cloaked: torch.Tensor) -> list[torch.Tensor]:
        height, width = region.work_size
        shown = torch.lerp(clean, cloaked[0, :, :height, :width], fade)
        pixels = add_changes(job.pixels, [Done(region, _change(shown, clean, region))])
        return embed_face(pixels if job.as_saved is None else job.as_saved(pixels), job.face, recipe.extractors)

    return FaceGoal(goal, embed_face(job.pixels, job.face, recipe.extractors), saved, job.others)


def _mask_matrices(live: Sequence[tuple[Job, Region, Done]]) -> list[Any]:
    return [region.to_work(mask_matrix(job.face, job.pixels.shape[:2])) for job, region, _ in live]


def _aim(view: RegionView, jobs: Sequence[Job], recipe: Recipe) -> list[list[str]]:
    """Draw each face's targets, set them in the view, and return their names."""
    assert recipe.targets is not None
    with torch.inference_mode():
        own = [features.cpu().numpy() for features in view.embed(view.clean)]
    drawn = [
        recipe.targets.draw([each[number] for each in own], job.person, recipe.seed, recipe.method.targets)
        for number, job in enumerate(jobs)
    ]
    view.targets = [
        torch.from_numpy(np.stack([targets[n] for _, targets in drawn])).to(view.clean.device)
        for n in range(len(recipe.extractors))
    ]
    return [names for names, _ in drawn]


def add_changes(pixels: Pixels, done: Sequence[Done]) -> Pixels:
    """Add the changes of a photo's regions to a copy of uint8 [H, W, 3].

    Where regions overlap their changes are added and clipped to the largest single one of either sign, so that an
    attack's bound holds there too.
    """
    out = pixels.copy()
    changed = [(each.region, each.change) for each in done if each.region is not None]
    if not changed:
        return out
    # Changes are summed before they are rounded, in the rectangle that holds all regions, some rows at a time: floats
    # of a whole 24-megapixel photo would take 290 MB each.
    top, left = min(region.top for region, _ in changed), min(region.left for region, _ in changed)
    bottom = max(region.top + region.height for region, _ in changed)
    right = max(region.left + region.width for region, _ in changed)
    rows = max(1, _PIXELS_PER_STRIP // (right - left))
    for start in range(top, bottom, rows):
        end = min(start + rows, bottom)
        total, lowest, highest = (np.zeros((end - start, right - left, 3), np.float32) for _ in range(3))
        for region, change in changed:
            first, last = max(start, region.top), min(end, region.top + region.height)
            if first >= last:
                continue
            column, part = region.left - left, change[first - region.top : last - region.top]
            window = slice(first - start, last - start), slice(column, column + region.width)
            total[window] += part
            np.minimum(lowest[window], part, out=lowest[window])
            np.maximum(highest[window], part, out=highest[window])
        total = np.clip(total, lowest, highest, out=total)
        out[start:end, left:right] = add_change(pixels[start:end, left:right], total)
    return out


def make_mask(photos: PersonPhotos, person: str, recipe: Recipe) -> tuple[torch.Tensor, int] | None:
    """Compute a person's mask, float32 [3, S, S], and return with it the steps taken.

    With a goal it is made until every photo has reached it. None if too little of their face is in any photo.
    """
    others = recipe.goal.others.besides(person, person, "") if recipe.goal and recipe.goal.others else ()
    views = []
    seeds = []
    for number, (pixels, face) in enumerate(zip(photos.pixels, photos.faces, strict=True)):
        region = locate_region(pixels, face, recipe.extractors)
        if region is None:
            continue
        clean = cut_out(pixels, region, recipe.extractors[0].device)
        matrix = region.to_work(mask_matrix(face, pixels.shape[:2]))
        seeds.append(seed_of(recipe.seed, person, number))
        views.append(
            RegionView(
                recipe.extractors,
                [region],
                [clean],
                distance=recipe.distance,
                seeds=seeds[-1:],
                views=recipe.views,
                mask_matrices=[matrix],
                goals=_face_goals([(Job(pixels, face, seeds[-1], others=others), region)], recipe),
                together=True,
            )
        )
    if not views:
        return None
    mask = recipe.method.function(views, (3, SIDE_PX, SIDE_PX), seeds=seeds, **recipe.knobs)
    return mask, views[0].stopping.taken if views[0].stopping else recipe.knobs["steps"]
