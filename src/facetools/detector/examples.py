"""Read clean and cloaked faces as examples for a detector, pair copies, and split examples by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from _toolio.errors import ToolError, param
from _toolio.files.hashing import sha256_of
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import count, open_items
from facetools.detector.crops import CROP_SCALE, Box, cut_square, face_crops, square_of
from facetools.intake import Intake, take_in
from facetools.pairs import without_suffix
from facetools.people import is_held_out, person_of, photo_of
from facetools.photos.photo import Pixels
from facetools.training.face_reader import NO_FACE, Report, Unused

if TYPE_CHECKING:
    import torch

KEPT_SCALE = 2.0
"""Side of the square that is kept of a photo, in sides of the face's box."""

KEPT_PX = 512
"""Of larger squares the centre is kept."""

MAX_DIFFERENCE = 24.0
"""Largest mean absolute difference of a photo and a copy of it, in grey levels."""


@dataclass(frozen=True, slots=True)
class Example:
    """One face to train on or to measure with.

    Attributes
    ----------
    source
        The label, the photo's path below its folder and the sha256 of its bytes, in one line.
    person
        Name of the person; nobody is in two parts of the data.
    photo
        Name of the photo, the same for a clean and a cloaked copy.
    cloak
        Number of the folder of cloaks that it comes from, -1 for a clean one.
    pixels
        uint8 [h, w, 3], the square around the face.
    box
        The face's box in it.
    origin
        Where it was cut: (left, top) of the square in the photo, and (height, width) of the photo.
    reduced
        uint8 [h, w, 3], the reduced crop of a face that is too large for one crop, or None.
    partner
        ``source`` of the clean copy that a cloaked face was cut like; None for a clean face, or if there is none.
    """

    source: str
    person: str
    photo: str
    cloak: int
    pixels: Pixels
    box: Box
    origin: tuple[int, int, int, int]
    reduced: Pixels | None = None
    partner: str | None = None

    @property
    def cloaked(self) -> bool:
        """The label."""
        return self.cloak >= 0

    def as_reduced(self) -> Example:
        """Return the reduced crop as an example of its own."""
        assert self.reduced is not None
        height, width = self.reduced.shape[:2]
        return replace(self, pixels=self.reduced, box=(0.0, 0.0, float(width), float(height)), reduced=None)

    def cut_alike(self, pixels: Pixels) -> Pixels:
        """Cut the same square from another photo of the same size."""
        left, top = self.origin[:2]
        height, width = self.pixels.shape[:2]
        return pixels[top : top + height, left : left + width].copy()


class UnusablePhoto(Exception):  # noqa: N818 - it is no error
    """A photo shows nothing to train on; the message says why."""


class ExampleReader:
    """Cut examples from photos: from clean ones first, then from cloaked ones, where their clean copies were cut.

    Parameters
    ----------
    suffix
        What a tool has added to the names of cloaked photos, as in ``1_cloaked.png``.
    """

    def __init__(self, suffix: str = "") -> None:
        self._suffix = suffix
        self._clean: dict[str, list[Example]] = {}

    def read(self, intake: Intake, cloak: int) -> Example:
        """Cut an example from a photo's first face.

        The photo's path below its folder names the person, and without endings the photo: a tool that saves PNG writes
        ``a.jpg`` as ``a.jpg.png``. Of a cloaked one the suffix is taken out first, if it has it.

        Raises
        ------
        UnusablePhoto
            There is no face, or too little of it is in the photo; or a cloaked copy is as the clean one.
        """
        relative, pixels = intake.item.relative, intake.photo.pixels
        if cloak >= 0:
            relative = without_suffix(relative, self._suffix) or relative
        photo = photo_of(relative)
        source = f"{'clean' if cloak < 0 else f'cloaked {cloak}'} {intake.item.relative} {sha256_of(intake.data)}"
        partner = self._partner_of(pixels, photo) if cloak >= 0 else None
        if partner is not None:
            kept = partner.cut_alike(pixels)
            if np.array_equal(kept, partner.pixels):
                raise UnusablePhoto("the same as its clean copy")
            reduced = _reduced_crop(pixels, partner.box, partner.origin)
            return replace(partner, source=source, cloak=cloak, pixels=kept, reduced=reduced, partner=partner.source)
        box = intake.faces[0].box if intake.faces else None
        # There must be enough for a crop.
        if box is None or cut_square(pixels, box, CROP_SCALE, KEPT_PX) is None:
            raise UnusablePhoto(NO_FACE)
        left, top, right, bottom = square_of(box, KEPT_SCALE, KEPT_PX, pixels.shape)
        kept = pixels[top:bottom, left:right].copy()  # the photo around it need not stay in memory
        within = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        origin = (left, top, pixels.shape[0], pixels.shape[1])
        reduced = _reduced_crop(pixels, within, origin)
        example = Example(source, person_of(relative), photo, cloak, kept, within, origin, reduced)
        if cloak < 0:
            self._clean.setdefault(photo, []).append(example)
        return example

    def _partner_of(self, pixels: Pixels, photo: str) -> Example | None:
        """Find the clean copy of a photo, where the face lies in the same place."""
        alike = [example for example in self._clean.get(photo, ()) if example.origin[2:] == pixels.shape[:2]]
        # Several folders may hold a photo of this name: the copy is that which differs least.
        apart = [(float(np.abs(each.cut_alike(pixels) - each.pixels.astype(np.int16)).mean()), each) for each in alike]
        distance, nearest = min(apart, key=lambda each: (each[0], each[1].source), default=(np.inf, None))
        return nearest if distance <= MAX_DIFFERENCE else None


def _reduced_crop(pixels: Pixels, box: Box, origin: tuple[int, ...]) -> Pixels | None:
    """Return the reduced crop of a face whose box lies in a square that begins at ``origin``, if it has one."""
    left, top = origin[:2]
    crops = face_crops(pixels, (box[0] + left, box[1] + top, box[2] + left, box[3] + top))
    return crops[0] if len(crops) > 1 else None


def split_people(examples: Sequence[Example], *, seed: int, share: float) -> tuple[list[Example], list[Example]]:
    """Split examples by person into training and held-out ones.

    Raises
    ------
    ToolError
        A part has no clean or no cloaked face.
    """
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[is_held_out(example.person, seed, share)].append(example)
    for name, part in zip(("training", "held-out"), parts, strict=True):
        if len({example.cloaked for example in part}) < 2:
            raise ToolError(
                f"the {name} part lacks clean or cloaked faces; give photos of more people or change "
                f"{param('held_out')}"
            )
    return parts


def read_examples(
    folders: Sequence[Sequence[str]],
    device: torch.device,
    *,
    faces: str = "largest",
    min_face_px: float | None = None,
    suffix: str = "",
    report: Report = lambda _: None,
    progress: Progress = no_progress,
) -> list[Example]:
    """Read the faces of photos, in an order that the order of inputs does not change.

    Parameters
    ----------
    folders
        Folders or archives of clean photos, then those of each cloak.
    device
        Where faces are found.
    faces, min_face_px
        As `facetools.intake.take_in` takes them.
    suffix
        What a tool has added to the names of cloaked photos, as in ``1_cloaked.png``.
    report
        Called for each photo that is not used.
    progress
        Shows how far reading is.
    """
    reader, examples = ExampleReader(suffix), []
    for cloak, paths in enumerate(folders, -1):
        items = open_items(list(paths))
        tracked = progress(items, "reading faces", count(items))
        for intake in take_in(tracked, device, faces=faces, min_face_px=min_face_px):
            if not isinstance(intake, Intake):
                report(intake)
                continue
            try:
                examples.append(reader.read(intake, cloak))
            except UnusablePhoto as reason:
                report(Unused(intake.item.path, str(reason)))
    return sorted(examples, key=lambda example: example.source)
