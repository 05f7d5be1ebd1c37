"""Read clean and cloaked faces as examples for a detector, pair copies, and split examples by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from _toolio.errors import ToolError, param
from _toolio.files.hashing import sha256_of, text_digest
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import count, open_items
from facetools.detector.crops import CROP_SCALE, Box, cut_square, resized, square_of
from facetools.faces.search import FaceSearch
from facetools.intake import Intake, take_in
from facetools.pairs import without_suffix
from facetools.people import is_held_out, person_of, photo_of
from facetools.photos.photo import Pixels, to_bytes
from facetools.training.face_reader import NO_FACE, Report, Unused

if TYPE_CHECKING:
    import torch

KEPT_SCALE = 1.6
"""Side of the square that is kept of a photo, in sides of the face's box."""

KEPT_PX = 448
"""A larger square is reduced to this side, about twice that at which the detector looks."""

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
        uint8 [h, w, 3], the square around the face, reduced to ``KEPT_PX`` if it is larger.
    box
        The face's box in it.
    origin
        Where it was cut: (left, top, right, bottom) of the square in the photo, and (height, width) of the photo.
    group
        Where the photo comes from: the first folder of its path, "" without one.
    partner
        ``source`` of the clean copy that a cloaked face was cut like; None for a clean face, or if there is none.
    elsewhere
        uint8 [h, w, 3], as large a square of the clean photo that has no more than half of it in common, or None.
    """

    source: str
    person: str
    photo: str
    cloak: int
    pixels: Pixels
    box: Box
    origin: tuple[int, int, int, int, int, int]
    group: str = ""
    partner: str | None = None
    elsewhere: Pixels | None = None

    @property
    def cloaked(self) -> bool:
        """The label."""
        return self.cloak >= 0

    def cut_alike(self, pixels: Pixels) -> Pixels:
        """Cut the same square from another photo of the same size, and reduce it as this one was."""
        left, top, right, bottom = self.origin[:4]
        return _keep(pixels[top:bottom, left:right])


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
            return replace(partner, source=source, cloak=cloak, pixels=kept, partner=partner.source, elsewhere=None)
        box = intake.faces[0].box if intake.faces else None
        # There must be enough for a crop.
        if box is None or cut_square(pixels, box, CROP_SCALE, 10**9) is None:
            raise UnusablePhoto(NO_FACE if intake.faces else intake.no_face)
        left, top, right, bottom = square_of(box, KEPT_SCALE, 10**9, pixels.shape)
        kept = _keep(pixels[top:bottom, left:right])  # the photo around it need not stay in memory
        wider, higher = kept.shape[1] / (right - left), kept.shape[0] / (bottom - top)
        x0, y0, x1, y1 = box
        within = ((x0 - left) * wider, (y0 - top) * higher, (x1 - left) * wider, (y1 - top) * higher)
        origin = (left, top, right, bottom, pixels.shape[0], pixels.shape[1])
        other = _elsewhere(pixels, origin, source) if cloak < 0 else None
        group = relative.partition("/")[0] if "/" in relative else ""
        example = Example(source, person_of(relative), photo, cloak, kept, within, origin, group=group, elsewhere=other)
        if cloak < 0:
            self._clean.setdefault(photo, []).append(example)
        return example

    def _partner_of(self, pixels: Pixels, photo: str) -> Example | None:
        """Find the clean copy of a photo, where the face lies in the same place."""
        alike = [example for example in self._clean.get(photo, ()) if example.origin[4:] == pixels.shape[:2]]
        # Several folders may hold a photo of this name: the copy is that which differs least.
        apart = [(float(np.abs(each.cut_alike(pixels) - each.pixels.astype(np.int16)).mean()), each) for each in alike]
        distance, nearest = min(apart, key=lambda each: (each[0], each[1].source), default=(np.inf, None))
        return nearest if distance <= MAX_DIFFERENCE else None


def _keep(part: Pixels) -> Pixels:
    """Return a copy of part of a photo, reduced if it is larger than ``KEPT_PX``."""
    longest = max(part.shape[:2])
    return part.copy() if longest <= KEPT_PX else to_bytes(resized(part, KEPT_PX / longest))


def _elsewhere(pixels: Pixels, origin: tuple[int, ...], source: str) -> Pixels | None:
    """Cut a square as large as a face's from elsewhere in its photo: hair, clothes, what is behind."""
    left, top, right, bottom, height, width = origin
    rng = np.random.default_rng(list(text_digest(source)[:8]))
    high, wide = bottom - top, right - left
    for y, x in zip(rng.integers(height - high + 1, size=8), rng.integers(width - wide + 1, size=8), strict=True):
        shared = max(0, high - abs(int(y) - top)) * max(0, wide - abs(int(x) - left))
        if shared <= high * wide / 2:
            return _keep(pixels[y : y + high, x : x + wide])
    return None


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
    faces: FaceSearch | str = "largest",
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
    faces
        As `facetools.intake.take_in` takes it.
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
        for intake in take_in(tracked, device, faces=faces):
            if not isinstance(intake, Intake):
                report(intake)
                continue
            try:
                examples.append(reader.read(intake, cloak))
            except UnusablePhoto as reason:
                report(Unused(intake.item.path, str(reason)))
    return sorted(examples, key=lambda example: example.source)
