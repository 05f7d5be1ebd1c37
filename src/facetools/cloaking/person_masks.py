"""Universal masks, one a person: gather their photos, write masks to a file, look them up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _toolio.errors import InputError, ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.faces.alignment import Points, chip_matrix
from facetools.faces.face import Face
from facetools.intake import Intake
from facetools.people import person_in
from facetools.photos.photo import Pixels

SCHEMA = "facetools.mask/1"

SIDE_PX = 192
"""Side of a mask. It covers 128x128 pixels around the 112x112 of ``arcface-112``, finer by half."""

PHOTOS = 20
"""A mask is made from this many photos of a person at most, the first ones."""


def mask_matrix(face: Face, photo_size: tuple[int, int]) -> Points:
    """Return the affine map from mask pixels to photo pixels for a face, [2, 3]."""
    if face.is_crop:
        return chip_matrix(face, photo_size, "none", (SIDE_PX, SIDE_PX))
    to_photo = chip_matrix(face, photo_size, "arcface-112", (112, 112))
    ratio = 128 / SIDE_PX
    matrix = to_photo.copy()
    matrix[:, :2] *= ratio
    matrix[:, 2] += to_photo[:, :2] @ np.full(2, ratio / 2 - 0.5 - 8)
    return matrix


@dataclass(slots=True)
class PersonPhotos:
    """Crops of a person's photos from which their mask is computed.

    Attributes
    ----------
    pixels
        uint8 [H, W, 3] each.
    faces
        The largest face of each.
    """

    pixels: list[Pixels] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)


def gather(intakes: Iterable[Intake], *, reach: float = 2.0) -> dict[str, PersonPhotos]:
    """Collect the first ``PHOTOS`` photos of each person with a face.

    Of a photo only what lies around the face is kept: a folder of large photos would not fit in memory.

    Parameters
    ----------
    intakes
        Photos; the person is named by the folder.
    reach
        How far around a face, in sides of its box.
    """
    people: dict[str, PersonPhotos] = {}
    for intake in intakes:
        photos = people.setdefault(person_in(intake.item.path, intake.item.relative), PersonPhotos())
        if not intake.faces or len(photos.faces) >= PHOTOS:
            continue
        pixels, face = intake.photo.pixels, intake.faces[0]
        if not face.is_crop:
            pixels, face = _around(pixels, face, reach)
        photos.pixels.append(pixels)
        photos.faces.append(face)
    return {person: photos for person, photos in people.items() if photos.faces}


def _around(pixels: Pixels, face: Face, reach: float) -> tuple[Pixels, Face]:
    x0, y0, x1, y1 = face.box
    room = reach * max(x1 - x0, y1 - y0)
    height, width = pixels.shape[:2]
    left, top = (int(np.clip(low - room, 0, side - 1)) for low, side in zip((x0, y0), (width, height), strict=True))
    right, bottom = (int(np.clip(high + room, 1, side)) for high, side in zip((x1, y1), (width, height), strict=True))
    if right <= left or bottom <= top:
        return pixels, face
    moved = Face((x0 - left, y0 - top, x1 - left, y1 - top), face.confidence, face.landmarks - (left, top))
    return pixels[top:bottom, left:right].copy(), moved


def save_masks(path: Path, masks: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write masks, float32 [3, S, S] a person, to one file."""
    tensors = {person: mask.cpu().numpy() for person, mask in masks.items()}
    write_safetensors(path, tensors, {"schema": SCHEMA, **about})


class Masks:
    """The masks of a file.

    Raises
    ------
    ToolError
        It is not a file of masks.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.about = path, read_metadata(path)
        self.digest = sha256_of(path.read_bytes())
        if self.about.get("schema") != SCHEMA:
            raise ToolError(f"{path}: not a file of masks, which `facetools perturb` makes", kind="mask")
        with open_safetensors(path) as file:
            self._masks: dict[str, npt.NDArray[np.float32]] = {
                name: np.array(file.tensor(name), np.float32) for name in file.entries
            }
        shapes: Sequence[tuple[int, ...]] = [mask.shape for mask in self._masks.values()]
        if not shapes or any(len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2] for shape in shapes):
            raise ToolError(f"{path}: holds no masks of shape [3, S, S]", kind="mask")
        if not all(np.isfinite(mask).all() for mask in self._masks.values()):
            raise ToolError(f"{path}: holds values that are not finite", kind="mask")

    def of(self, relative: str, path: str) -> torch.Tensor:
        """Return a photo's mask, float32 [3, S, S]: its person's, or the only one in the file.

        Raises
        ------
        InputError
            Kind ``no-mask``: the file has several masks, and none for this person.
        """
        person = person_in(path, relative)
        if person not in self._masks and len(self._masks) > 1:
            raise InputError(
                f"{path}: {self.path} has no mask for {person}; put the photo in a folder named after a person it has",
                kind="no-mask",
            )
        return torch.from_numpy(self._masks[self._owner(person)])

    def steps_of(self, relative: str, path: str, otherwise: int | None) -> int | None:
        """Return the steps that a photo's mask was made with, where the file says so."""
        steps: Mapping[str, int] = self.about.get("steps_used", {})
        return steps.get(self._owner(person_in(path, relative)), otherwise)

    def _owner(self, person: str) -> str:
        return person if person in self._masks else next(iter(self._masks))
