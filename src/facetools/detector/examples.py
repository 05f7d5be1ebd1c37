"""Clean and cloaked faces that a detector is trained on and measured with: reading, pairing, splitting by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from _toolio.cli.progress import track
from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import count, open_items
from _toolio.streams.records import RecordWriter
from facetools.detector.crops import ROOM as LOOKED_AT
from facetools.detector.crops import Box, cut_square, looks_of, square_of
from facetools.intake import Intake
from facetools.intake_records import needing_work
from facetools.pairs import without_suffix
from facetools.people import is_held_out, person_of, photo_of
from facetools.photos.photo import Pixels

if TYPE_CHECKING:
    import torch

ROOM = 2.0
"""Side of the square that is kept of a photo, in sides of the face's box."""

LARGEST_PX = 512
"""Of larger squares the middle is kept."""

FARTHEST = 24.0
"""Mean difference in grey levels from which on two photos are no copies of each other."""


@dataclass(frozen=True, slots=True)
class Example:
    """One face.

    Attributes
    ----------
    source
        The label, the photo's path below its folder and the sha256 of its bytes, in one line.
    person
        Whose; people are never in two parts of the data.
    photo
        What a clean and a cloaked copy of the same photo have in common.
    cloak
        Number of the folder of cloaks that it comes from, -1 for a clean one.
    pixels
        uint8 [h, w, 3], the square around the face.
    box
        The face's box in it.
    origin
        Where it was cut: left and top of the square in the photo, and the photo's height and width.
    reduced
        uint8 [h, w, 3], the reduced look at a face that is too large to be looked at in one piece, or None.
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
        """Give the reduced look as a face of its own, all of which is looked at."""
        assert self.reduced is not None
        height, width = self.reduced.shape[:2]
        return replace(self, pixels=self.reduced, box=(0.0, 0.0, float(width), float(height)), reduced=None)

    def cut_alike(self, pixels: Pixels) -> Pixels:
        """Cut the same square from another photo of the same size."""
        left, top = self.origin[:2]
        height, width = self.pixels.shape[:2]
        return pixels[top : top + height, left : left + width].copy()


class Unusable(Exception):  # noqa: N818 - it is no error
    """A photo shows nothing to train on; the message says why."""


class Reader:
    """Makes examples of photos: of clean ones first, then of cloaked ones, cut where their clean copies were.

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

        The photo's path below its folder names the person, and without endings the photo: ``perturb --format png``
        writes ``a.jpg`` as ``a.jpg.png``. Of a cloaked one the suffix is taken out first, if it has it.

        Raises
        ------
        Unusable
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
                raise Unusable("the same as its clean copy")
            reduced = _reduced_look(pixels, partner.box, partner.origin)
            return replace(partner, source=source, cloak=cloak, pixels=kept, reduced=reduced, partner=partner.source)
        box = intake.faces[0].box if intake.faces else None
        # As much as is looked at must be there.
        if box is None or cut_square(pixels, box, LOOKED_AT, LARGEST_PX) is None:
            raise Unusable("no face found")
        left, top, right, bottom = square_of(box, ROOM, LARGEST_PX, pixels.shape)
        kept = pixels[top:bottom, left:right].copy()  # the photo around it need not stay in memory
        within = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        origin = (left, top, pixels.shape[0], pixels.shape[1])
        reduced = _reduced_look(pixels, within, origin)
        example = Example(source, person_of(relative), photo, cloak, kept, within, origin, reduced)
        if cloak < 0:
            self._clean.setdefault(photo, []).append(example)
        return example

    def _partner_of(self, pixels: Pixels, photo: str) -> Example | None:
        """Find the clean copy of a photo, in which the face lies in the same place."""
        alike = [example for example in self._clean.get(photo, ()) if example.origin[2:] == pixels.shape[:2]]
        # Several folders may hold a photo of this name: the copy is that which differs least.
        apart = [(float(np.abs(each.cut_alike(pixels) - each.pixels.astype(np.int16)).mean()), each) for each in alike]
        distance, nearest = min(apart, key=lambda each: (each[0], each[1].source), default=(np.inf, None))
        return nearest if distance <= FARTHEST else None


def _reduced_look(pixels: Pixels, box: Box, origin: tuple[int, ...]) -> Pixels | None:
    """Give the reduced look at a face whose box lies in a square that begins at ``origin``, if there is one."""
    left, top = origin[:2]
    looks = looks_of(pixels, (box[0] + left, box[1] + top, box[2] + left, box[3] + top))
    return looks[0] if len(looks) > 1 else None


def split_people(examples: Sequence[Example], *, seed: int, share: float) -> tuple[list[Example], list[Example]]:
    """Split examples by person into those to train on and those held out.

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
                f"the {name} part lacks clean or cloaked faces; give photos of more people or change --held-out"
            )
    return parts


class _Sourced(Protocol):
    @property
    def source(self) -> str: ...


def digest_of(examples: Sequence[_Sourced]) -> str:
    """Hash what a network was trained on: labels, paths and contents of all photos, in any order."""
    return sha256_of("\n".join(sorted(example.source for example in examples)).encode("utf-8", "surrogateescape"))


def read_examples(
    writer: RecordWriter,
    folders: Sequence[Sequence[str]],
    device: torch.device,
    *,
    faces: str,
    min_face_px: float | None,
    suffix: str,
) -> list[Example]:
    """Read the faces of some inputs, the clean ones first; photos that cannot be used become records.

    The order of folders and of what lies in them decides nothing.
    """
    from facetools.intake import take_in

    reader, examples = Reader(suffix), []
    for cloak, paths in enumerate(folders, -1):
        items = open_items(list(paths))
        tracked = track(items, "reading faces", count(items))
        for intake in needing_work(writer, take_in(tracked, device, faces=faces, min_face_px=min_face_px)):
            try:
                examples.append(reader.read(intake, cloak))
            except Unusable as reason:
                writer.emit({"path": intake.item.path, "reason": str(reason)})
    return sorted(examples, key=lambda example: example.source)
