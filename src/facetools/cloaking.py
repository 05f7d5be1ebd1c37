"""From an attack on face regions to a cloaked photo, saved and measured."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from _toolio.errors import InputError
from _toolio.streams.records import error_fields
from facetools import perceptual
from facetools.attacks import Method
from facetools.embedding import chip_of
from facetools.extractors import Extractor
from facetools.faces.finder import Face
from facetools.intake import Intake, describe_face
from facetools.masks import SIDE_PX, Masks, PersonPhotos, mask_matrix
from facetools.outputs import Output
from facetools.people import person_in
from facetools.photos import (
    GUESSED_QUALITY,
    KEEP_ALPHA,
    WRITTEN_AS_PNG,
    Photo,
    Pixels,
    as_tensor,
    decode_photo,
    encode_photo,
    fitting_name,
)
from facetools.regions import Region, cut_out, enlarge_change, locate_region
from facetools.targets import Targets
from facetools.viewing import Distance, RegionView


@dataclass(frozen=True, slots=True)
class Change:
    """What a cloak did to one face, measured on what was saved.

    Attributes
    ----------
    moved
        Cosine distance between clean and cloaked embedding, mean over extractors, 0 to 2.
    distances
        The same for each extractor.
    ssim, psnr
        Of the face's region; ``psnr`` in dB, infinity where nothing changed.
    linf
        Largest change of a channel in the region, 0 to 255.
    perceptual, perceptual_distance
        Name of the perceptual distance, and the distance of the regions.
    """

    moved: float
    distances: Mapping[str, float]
    ssim: float
    psnr: float
    linf: int
    perceptual: str
    perceptual_distance: float


def measure_change(
    clean: Pixels, cloaked: Pixels, face: Face, extractors: Sequence[Extractor], distance: Distance
) -> Change | None:
    """Compare one face in two photos of the same size, uint8 [H, W, 3], both aligned by the same landmarks.

    None if the face's chips lie outside the photo, so that it cannot be cloaked either.
    """
    region = locate_region(clean, face, extractors)
    if region is None:
        return None
    with torch.inference_mode():
        distances = measure_distances(clean, cloaked, face, extractors)
        parts = [p[region.slices] for p in (clean, cloaked)]
        before, after = (as_tensor(part, extractors[0].device) for part in parts)
        linf = int(np.abs(parts[0].astype(np.int16) - parts[1]).max())
        quality, noise = float(perceptual.ssim(before, after)), float(perceptual.psnr(before, after))
        looks = float(distance.to(before)(after))
    moved = sum(distances.values()) / len(distances)
    return Change(moved, distances, quality, noise, linf, distance.name, looks)


def describe_change(change: Change) -> dict[str, Any]:
    """Give the fields of a record; one whose ``moved`` is no number has a reason."""
    broken = {} if math.isfinite(change.moved) else {"reason": "an extractor gives an embedding that is not finite"}
    return {**asdict(change), **broken}


def measure_distances(clean: Pixels, cloaked: Pixels, face: Face, extractors: Sequence[Extractor]) -> dict[str, float]:
    """Give the cosine distance of one face's embeddings in two photos for each extractor, 0 to 2."""
    distances = {}
    with torch.inference_mode():
        for extractor in extractors:
            # The chips that embed would cut, from the photo's own pixels.
            f, g = (extractor.network(chip_of(p, face, extractor))[0].double() for p in (clean, cloaked))
            # Unlike max(), a clamp keeps what is not a number; records give it as null.
            distances[extractor.name] = float((1 - F.cosine_similarity(f, g, dim=0)).clamp(min=0))
    return distances


def seed_of(seed: int, digest: str, face: int) -> int:
    """Draw the seed of one face from the run's seed and the photo's bytes, so that order and batch do not matter."""
    drawn = hashlib.sha256(f"{seed} {digest} {face}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(drawn[:8], "little") >> 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How faces are cloaked.

    Attributes
    ----------
    method, mode, knobs
        The attack, from ``facetools.attacks``.
    extractors
        The ensemble that it is made against.
    distance
        The perceptual distance that it weighs.
    seed
        Of the run.
    views
        Names of random views that it optimises through.
    targets, masks
        What a targeted attack pulls to; what an attack that makes one mask a person has made.
    made_against
        Names of the ensemble that the masks were made against, where that is another.
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

    def describe(self) -> dict[str, Any]:
        """Give what records say of it."""
        return {
            "attack": self.method.name,
            "mode": self.mode,
            "extractors": list(self.made_against or (extractor.name for extractor in self.extractors)),
            "knobs": dict(self.knobs),
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
    """

    pixels: Pixels
    face: Face
    seed: int
    person: str = ""
    mask: torch.Tensor | None = None


@dataclass(slots=True)
class Done:
    """A region's change, float32 [height, width, 3] in 0 to 255, or None where too little of the face is there.

    ``seconds`` is its share of the time; ``aims`` names the people that it was pulled to.
    """

    region: Region | None
    change: Any = None
    seconds: float = 0.0
    aims: list[str] = field(default_factory=list)


def cloak_faces(jobs: Sequence[Job], recipe: Recipe) -> list[Done]:
    """Cloak faces as one batch: memory grows with their number, and not with their photos' size."""
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
    )
    if recipe.targets is not None:
        aims = _aim(view, [job for job, _, _ in live], recipe)
        for (_, _, result), names in zip(live, aims, strict=True):
            result.aims = names
    if recipe.method.per_person:
        cloaked = view.lay([job.mask for job, _, _ in live if job.mask is not None])
    else:
        cloaked = recipe.method.function(view, view.clean, seeds=seeds, **recipe.knobs)
    cloaked = view.faded(cloaked)
    for number, (_, region, result) in enumerate(live):
        height, width = region.work_size
        change = (cloaked[number] - view.clean[number])[None, :, :height, :width]
        result.change = enlarge_change(change, region)
    for _, _, result in live:
        result.seconds = (time.perf_counter() - start) / len(live)
    return done


def _mask_matrices(live: Sequence[tuple[Job, Region, Done]]) -> list[Any]:
    return [region.to_work(mask_matrix(job.face, job.pixels.shape[:2])) for job, region, _ in live]


def _aim(view: RegionView, jobs: Sequence[Job], recipe: Recipe) -> list[list[str]]:
    """Draw each face's targets, and put them into the view."""
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

    Where regions overlap their changes are added, and go no further than the furthest of them goes alone: an attack's
    bound holds there too.
    """
    out = pixels.copy()
    changed = [(each.region, each.change) for each in done if each.region is not None]
    if not changed:
        return out
    # Changes are summed before they are rounded, in the rectangle that holds all regions: a float copy of a
    # whole 24-megapixel photo would take 290 MB.
    top, left = min(region.top for region, _ in changed), min(region.left for region, _ in changed)
    bottom = max(region.top + region.height for region, _ in changed)
    right = max(region.left + region.width for region, _ in changed)
    total, lowest, highest = (np.zeros((bottom - top, right - left, 3), np.float32) for _ in range(3))
    for region, change in changed:
        row, column = region.top - top, region.left - left
        place = slice(row, row + region.height), slice(column, column + region.width)
        total[place] += change
        np.minimum(lowest[place], change, out=lowest[place])
        np.maximum(highest[place], change, out=highest[place])
    total = np.clip(total, lowest, highest, out=total)
    total += pixels[top:bottom, left:right]
    out[top:bottom, left:right] = np.clip(np.rint(total), 0, 255)
    return out


def make_mask(photos: PersonPhotos, person: str, recipe: Recipe) -> torch.Tensor | None:
    """Make a person's mask, float32 [3, S, S]; None where too little of their face is in any photo."""
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
            )
        )
    if not views:
        return None
    return recipe.method.function(views, (3, SIDE_PX, SIDE_PX), seeds=seeds, **recipe.knobs)


@dataclass(frozen=True, slots=True)
class Saving:
    """How cloaked photos are saved.

    Attributes
    ----------
    file_format, quality, strip_gps
        As ``encode_photo`` takes them.
    suffix
        Put behind the name's stem.
    copy_faceless
        Photos without a face are copied.
    """

    file_format: str | None = None
    quality: int | None = None
    strip_gps: bool = False
    suffix: str = ""
    copy_faceless: bool = False

    def name(self, relative: str, file_format: str) -> str:
        """Give the output's path below the output folder."""
        path = PurePosixPath(relative)
        return fitting_name(str(path.with_name(f"{path.stem}{self.suffix}{path.suffix}")), file_format)

    def encode(self, photo: Photo, pixels: Pixels) -> bytes:
        """Write pixels back as the photo was."""
        return encode_photo(photo, pixels, file_format=self.file_format, quality=self.quality, strip_gps=self.strip_gps)


class Cloaker:
    """Cloaks photos, several at a time.

    Parameters
    ----------
    recipe, saving
        How.
    unseen
        Extractors that are not attacked: how far they move is measured too.
    batch
        Faces that are worked on together.
    """

    def __init__(self, recipe: Recipe, saving: Saving, *, unseen: Sequence[Extractor] = (), batch: int = 1) -> None:
        self.recipe, self._saving, self._unseen, self._batch = recipe, saving, unseen, batch

    @property
    def arguments(self) -> dict[str, Any]:
        """What the cloaked bytes, and their records, depend on besides the photo."""
        recipe, saving = self.recipe, self._saving
        return {
            **{key: value for key, value in recipe.describe().items() if key != "extractors"},
            "extractors": {extractor.name: extractor.sha256 for extractor in recipe.extractors},
            "measured": {extractor.name: extractor.sha256 for extractor in self._unseen},
            "perceptual": [recipe.distance.name, recipe.distance.sha256],
            "targets": recipe.targets and recipe.targets.digest,
            "masks": recipe.masks and recipe.masks.digest,
            "format": saving.file_format,
            "quality": saving.quality,
            "strip_gps": saving.strip_gps,
            "suffix": saving.suffix,
            "copy_faceless": saving.copy_faceless,
        }

    def cloak(self, intakes: Sequence[Intake]) -> list[Output]:
        """Cloak some photos' faces: for each one output, with one record a face or one that says there is none."""
        jobs, refused = [], {}
        for place, intake in enumerate(intakes):
            try:
                jobs += [(place, job) for job in self._jobs(intake)]
            except InputError as error:
                refused[place] = error
        done: dict[int, list[Done]] = {place: [] for place in range(len(intakes))}
        for start in range(0, len(jobs), self._batch):
            part = jobs[start : start + self._batch]
            for (place, _), result in zip(part, cloak_faces([job for _, job in part], self.recipe), strict=True):
                done[place].append(result)
        return [
            self._refuse(intake, refused[place]) if place in refused else self._save(intake, done[place])
            for place, intake in enumerate(intakes)
        ]

    def _jobs(self, intake: Intake) -> Iterator[Job]:
        relative, masks = intake.item.relative, self.recipe.masks
        mask = None if masks is None else masks.of(relative, intake.item.path)
        person = person_in(intake.item.path, relative)
        if self.recipe.targets is not None and intake.faces:
            self.recipe.targets.check(intake.item.path, person, self.recipe.method.targets)
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            seed = seed_of(self.recipe.seed, intake.digest, number)
            yield Job(intake.photo.pixels, face, seed, person, mask)

    def _refuse(self, intake: Intake, error: InputError) -> Output:
        return Output(intake.item.relative, None, [{"source": intake.item.path, **error_fields(error)}], failed=True)

    def _save(self, intake: Intake, done: Sequence[Done]) -> Output:
        photo, item, saving = intake.photo, intake.item, self._saving
        name = saving.name(item.relative, saving.file_format or photo.format)
        notes = self._notes(photo)
        try:
            if not any(each.region for each in done):
                return self._faceless(intake, name, notes)
            data = saving.encode(photo, add_changes(photo.pixels, done))
        except InputError as error:
            return self._refuse(intake, InputError(f"{item.path}: {error.message}", kind=error.kind))
        saved = decode_photo(data, name).pixels
        described = []
        for face, number, result in zip(intake.faces, intake.numbers, done, strict=True):
            fields = {"relative": name, "source": item.path, **describe_face(face, number)}
            measured = self._measure(photo.pixels, saved, face, result)
            described.append({**fields, **measured, **self.recipe.describe(), "source_sha256": intake.digest, **notes})
        return Output(name, data, described)

    def _notes(self, photo: Photo) -> dict[str, Any]:
        kind, quality = self._saving.file_format or photo.format, self._saving.quality
        # What it would have been written as does not matter where the user says what.
        lost = [note for note in photo.notes if not (self._saving.file_format and note.endswith(WRITTEN_AS_PNG))]
        if kind in GUESSED_QUALITY and quality is None and not photo.is_lossless(kind):
            lost.append(f"{kind} files do not tell their quality: saved with {GUESSED_QUALITY[kind]}")
        if photo.alpha is not None and kind not in KEEP_ALPHA:
            lost.append("transparency removed")
        if self._saving.strip_gps and photo.has_gps:
            lost.append("GPS removed")
        return {"notes": lost} if lost else {}

    def _faceless(self, intake: Intake, name: str, notes: Mapping[str, Any]) -> Output:
        why = "too little of the face is in the photo" if intake.faces else "no face found"
        saving, data, what = self._saving, None, "nothing written"
        if saving.copy_faceless:
            # The file itself, unless that would keep what the user wants gone.
            changed = saving.strip_gps or saving.file_format or saving.quality
            data, what = saving.encode(intake.photo, intake.photo.pixels) if changed else intake.data, "copied"
            if not changed:  # nothing of it is lost either
                name, notes = saving.name(intake.item.relative, intake.photo.format), {}
        reason = {"relative": name, "source": intake.item.path, "face": None, "reason": f"{why}; {what}"}
        return Output(name, data, [{**reason, **notes}])

    def _measure(self, clean: Pixels, saved: Pixels, face: Face, result: Done) -> dict[str, Any]:
        change = measure_change(clean, saved, face, self.recipe.extractors, self.recipe.distance)
        if change is None or result.region is None:
            return {"reason": "too little of the face is in the photo"}
        fields = describe_change(change)
        if self._unseen:
            fields["unseen"] = measure_distances(clean, saved, face, self._unseen)
        if result.aims:
            fields["targets"] = result.aims
        steps = self.recipe.knobs.get("steps")
        return {**fields, "steps": steps, "seconds": round(result.seconds, 3)}
