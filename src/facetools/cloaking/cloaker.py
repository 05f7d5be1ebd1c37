"""Cloak the faces of decoded photos, encode the result and measure it as saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from _toolio.errors import InputError
from _toolio.streams.records import error_fields
from facetools.cloaking.change import describe_change, measure_change, measure_distances
from facetools.cloaking.engine import Done, Job, Recipe, add_changes, cloak_faces, seed_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face, describe_face
from facetools.faces.search import FaceSearch
from facetools.intake import Intake
from facetools.outputs import Output, Outputs, outputs_of
from facetools.people import person_in
from facetools.photos.codec import WRITTEN_AS_PNG, decode_photo
from facetools.photos.photo import Photo, Pixels
from facetools.photos.saving import Saving
from facetools.photos.writing import losses_as
from facetools.workers.photos import PhotoWorker

_LOSSLESS = ("PNG", "BMP", "PPM")
"""Formats that give back the pixels they were given."""


class Cloaker:
    """Cloak photos, several at a time.

    Parameters
    ----------
    recipe, saving
        How faces are attacked, and how photos are saved.
    unseen
        Extractors that are measured but not attacked.
    batch
        Faces attacked together.
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
            **({"until": recipe.goal.describe()} if recipe.goal else {}),
        }

    def cloak(self, intakes: Sequence[Intake]) -> list[Output]:
        """Cloak the faces of some photos; returns one output a photo, with one record a face, or one with a reason."""
        jobs, refused = [], {}
        for index, intake in enumerate(intakes):
            try:
                jobs += [(index, job) for job in self._jobs(intake)]
            except InputError as error:
                refused[index] = error
        done: dict[int, list[Done]] = {index: [] for index in range(len(intakes))}
        for start in range(0, len(jobs), self._batch):
            part = jobs[start : start + self._batch]
            for (index, _), result in zip(part, cloak_faces([job for _, job in part], self.recipe), strict=True):
                done[index].append(result)
        return [
            self._refuse(intake, refused[index]) if index in refused else self._save(intake, done[index])
            for index, intake in enumerate(intakes)
        ]

    def _jobs(self, intake: Intake) -> Iterator[Job]:
        relative, masks = intake.item.relative, self.recipe.masks
        mask = None if masks is None else masks.of(relative, intake.item.path)
        person = person_in(intake.item.path, relative)
        if self.recipe.targets is not None and intake.faces:
            self.recipe.targets.check(intake.item.path, person, self.recipe.method.targets)
        others = self._others(intake)
        as_saved = self._as_saved(intake.photo) if self.recipe.goal else None
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            seed = seed_of(self.recipe.seed, intake.digest, number)
            yield Job(intake.photo.pixels, face, seed, person, mask, others, as_saved)

    def _others(self, intake: Intake) -> Sequence[Tensor]:
        """Return the people that the goal hides a photo's faces among."""
        goal, item = self.recipe.goal, intake.item
        if goal is None or goal.others is None or not intake.faces:
            return ()
        return goal.others.besides(item.path, person_in(item.path, item.relative), intake.digest)

    def _as_saved(self, photo: Photo) -> Callable[[Pixels], Pixels] | None:
        """Return what encodes changed pixels and decodes them again; None where that changes nothing."""
        if (self._saving.file_format or photo.format) in _LOSSLESS:
            return None

        def as_saved(pixels: Pixels) -> Pixels:
            try:
                return decode_photo(self._saving.encode(photo, pixels), "").pixels
            except InputError:  # it will be refused when it is saved
                return pixels

        return as_saved

    def _refuse(self, intake: Intake, error: InputError) -> Output:
        return Output(intake.item.relative, None, [{"source": intake.item.path, **error_fields(error)}], failed=True)

    def _save(self, intake: Intake, done: Sequence[Done]) -> Output:
        photo, item, saving = intake.photo, intake.item, self._saving
        name = saving.name(item.relative, saving.file_format or photo.format)
        notes = self._notes(photo)
        try:
            if not any(each.region for each in done):
                return self._faceless(intake, name, notes)
            cloaked = add_changes(photo.pixels, done)
            for each in done:
                each.change = None  # of a large face 12 bytes a pixel
            data = saving.encode(photo, cloaked)
        except InputError as error:
            return self._refuse(intake, InputError(f"{item.path}: {error.message}", kind=error.kind))
        saved = decode_photo(data, name).pixels
        described, others = [], _describe_others(intake)
        for face, number, result in zip(intake.faces, intake.numbers, done, strict=True):
            fields = {"relative": name, "source": item.path, **describe_face(face, number)}
            measured = self._measure(intake, saved, face, result)
            described.append(
                {**fields, **measured, **self.recipe.describe(), "source_sha256": intake.digest, **others, **notes}
            )
        return Output(name, data, described)

    def _notes(self, photo: Photo) -> dict[str, Any]:
        kind, quality = self._saving.file_format or photo.format, self._saving.quality
        # What it would have been written as does not matter where the user says what.
        lost = [note for note in photo.notes if not (self._saving.file_format and note.endswith(WRITTEN_AS_PNG))]
        lost += losses_as(photo, kind, quality=quality, strip_gps=self._saving.strip_gps)
        return {"notes": lost} if lost else {}

    def _faceless(self, intake: Intake, name: str, notes: Mapping[str, Any]) -> Output:
        why = "too little of the face is in the photo" if intake.faces else intake.no_face
        saving, data, what = self._saving, None, "nothing written"
        if saving.copy_faceless:
            # The file itself, unless that would keep what the user wants gone.
            changed = saving.strip_gps or saving.file_format or saving.quality
            data, what = saving.encode(intake.photo, intake.photo.pixels) if changed else intake.data, "copied"
            if not changed:  # nothing of it is lost either
                name, notes = saving.name(intake.item.relative, intake.photo.format), {}
        fields = {"relative": name, "source": intake.item.path, "reason": f"{why}; {what}", **_describe_others(intake)}
        faces = [describe_face(face, number) for face, number in zip(intake.faces, intake.numbers, strict=True)]
        return Output(name, data, [{**fields, **face, **notes} for face in faces or [{"face": None}]])

    def _measure(self, intake: Intake, saved: Pixels, face: Face, result: Done) -> dict[str, Any]:
        clean = intake.photo.pixels
        change = measure_change(clean, saved, face, self.recipe.extractors, self.recipe.distance)
        if change is None or result.region is None:
            return {"reason": "too little of the face is in the photo"}
        fields = describe_change(change)
        if self._unseen:
            fields["unseen"] = measure_distances(clean, saved, face, self._unseen)
        if result.aims:
            fields["targets"] = result.aims
        if self.recipe.goal is not None:
            reach = self.recipe.goal.measure(change.clean, change.cloaked, self._others(intake))
            fields["reached"] = reach.reached
            if reach.margin is not None:
                fields["hidden_margin"] = reach.margin
        steps = self._steps_of(intake, result)
        return {**fields, "steps": steps, "seconds": round(result.seconds, 3)}

    def _steps_of(self, intake: Intake, result: Done) -> int | None:
        """Return the steps taken: those of the face where it stopped, of its mask, or all of the attack's."""
        all_steps: int | None = self.recipe.knobs.get("steps")
        if self.recipe.masks is not None:
            return self.recipe.masks.steps_of(intake.item.relative, intake.item.path, all_steps)
        return all_steps if result.steps is None else result.steps


class CloakingWorker(PhotoWorker[Outputs]):
    """Find faces and cloak them.

    Parameters
    ----------
    cloaker
        What cloaks them.
    search, device, batch
        As of `PhotoWorker`.
    """

    def __init__(self, cloaker: Cloaker, search: FaceSearch, device: torch.device, batch: int) -> None:
        super().__init__(device, search, batch, search_together=False)
        self._cloaker = cloaker

    def make(self, intakes: Sequence[Intake]) -> list[Outputs]:
        """Return the cloaked copy of each photo."""
        outputs = self._cloaker.cloak(intakes)
        return [outputs_of(intake, [output]) for intake, output in zip(intakes, outputs, strict=True)]


def _describe_others(intake: Intake) -> dict[str, Any]:
    """Return the field that names the faces which were found and, as another was chosen, are not cloaked."""
    others = [describe_face(face, number) for number, face in intake.others]
    return {"others": [{key: face[key] for key in ("face", "box")} for face in others]} if others else {}
