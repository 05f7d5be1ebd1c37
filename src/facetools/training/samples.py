"""Training samples: faces cut from photos with a margin, and their random augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from facetools.extractors.settings import Settings
from facetools.faces.alignment import ChipCutter, Points, chip_corners, chip_matrix
from facetools.intake import Intake
from facetools.people import is_held_out, lot_of, person_of
from facetools.photos.photo import Pixels, as_tensor

MARGIN = 0.2
"""Margin around the chips that is kept of a photo for jitter, in sides of the chips' common rectangle."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A face to train on.

    Attributes
    ----------
    source
        The photo's path below its folder and the sha256 of its bytes.
    person
        Name of the person.
    pixels
        uint8 [h, w, 3], the part of the photo around the face.
    matrices
        [2, 3] for each network: pixels of its chip to those of ``pixels``.
    """

    source: str
    person: str
    pixels: Pixels
    matrices: tuple[Points, ...]

    def lies_on(self, other: Sample) -> bool:
        """Test whether both were cut at the same place from photos of one size."""
        alike = self.pixels.shape == other.pixels.shape
        return alike and all(np.allclose(a, b) for a, b in zip(self.matrices, other.matrices, strict=True))


def make_sample(intake: Intake, *networks: Settings) -> Sample | None:
    """Cut a sample for some networks' chips from a photo's first face; None if there is none."""
    if not intake.faces:
        return None
    pixels, face = intake.photo.pixels, intake.faces[0]
    height, width = pixels.shape[:2]
    matrices = [chip_matrix(face, (height, width), each.alignment, each.input_size) for each in networks]
    corners = np.concatenate([chip_corners(m, n.input_size) for m, n in zip(matrices, networks, strict=True)])
    low, high = corners.min(0), corners.max(0)
    margin = MARGIN * float((high - low).max())
    left, top = (int(np.clip(v - margin, 0, side - 1)) for v, side in zip(low, (width, height), strict=True))
    right, bottom = (int(np.clip(v + margin, 1, side)) for v, side in zip(high, (width, height), strict=True))
    if right - left < 16 or bottom - top < 16:
        return None
    for matrix in matrices:
        matrix[:, 2] -= (left, top)
    part = pixels[top:bottom, left:right].copy()
    relative = intake.item.relative
    source = f"{relative} {sha256_of(intake.data)}"
    return Sample(source, person_of(relative), part, tuple(matrices))


class _Sourced(Protocol):
    @property
    def source(self) -> str: ...


def digest_sources(samples: Iterable[_Sourced]) -> str:
    """Hash what a network is trained on: labels, paths and contents of all photos, in any order."""
    return sha256_of("\n".join(sorted(sample.source for sample in samples)).encode("utf-8", "surrogateescape"))


def split(samples: Sequence[Sample], *, seed: int, share: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples by person into training and held-out ones, two people each at least.

    Raises
    ------
    ToolError
        There are fewer than four people.
    """
    people = {sample.person for sample in samples}
    if len(people) < 4:
        raise ToolError(f"{len(people)} people have a face; two to train on and two to hold out are the least")
    shuffled = sorted(people, key=lambda person: lot_of(person, seed))
    drawn = sum(is_held_out(person, seed, share) for person in people)
    # Of few people chance may leave one part empty.
    held = set(shuffled[: min(max(2, drawn), len(people) - 2)])
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        parts[sample.person in held].append(sample)
    return parts


def _jitter(sample: Sample, rng: np.random.Generator) -> list[Points]:
    """Rotate, scale and shift all chips alike at random, as if the finder had placed the landmarks slightly off."""
    angle, scale = rng.normal(0, 0.05), math.exp(rng.normal(0, 0.04))
    matrix = sample.matrices[0]
    side = float(np.hypot(*matrix[:, 0])) * 112
    shift = rng.normal(0, 0.015 * side, 2)
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([sample.pixels.shape[1], sample.pixels.shape[0]]) / 2
    moved = []
    for each in sample.matrices:
        linear = turn @ each[:, :2]
        moved.append(np.column_stack([linear, turn @ (each[:, 2] - middle) + middle + shift]))
    return moved


def _tone(photo: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, colour and sharpness of float32 [1, 3, h, w] in [0, 1] at random."""
    if rng.random() < 0.5:
        photo = photo.clamp(0, 1) ** float(rng.uniform(0.7, 1.5))
        photo = (photo - 0.5) * float(rng.uniform(0.7, 1.3)) + 0.5 + float(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.1:
        photo = photo.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < 0.2:
        size = photo.shape[-2:]
        factor = float(rng.uniform(0.35, 0.9))
        small = [max(8, round(side * factor)) for side in size]
        photo = F.interpolate(photo, small, mode="bilinear", antialias=True, align_corners=False)
        photo = F.interpolate(photo, size, mode="bilinear", align_corners=False)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(0.002, 0.03), tuple(photo.shape)).astype(np.float32)
        photo = photo + torch.from_numpy(noise)
    return photo.clamp(0, 1)


def cut_chips(sample: Sample, sizes: Sequence[tuple[int, int]], rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Cut each network's chip of a sample, float32 [1, 3, h, w] in [0, 1], with the same random augmentation."""
    matrices, photo = _jitter(sample, rng), _tone(as_tensor(sample.pixels), rng)
    if rng.random() < 0.5:
        photo = photo.flip(3)
        mirror = np.array([[-1.0], [1.0]])
        # Mirror in the photo, then in the chip, so that the chip is again a face looking the other way.
        width = photo.shape[3]
        matrices = [_mirrored(matrix * mirror, width, size[1]) for matrix, size in zip(matrices, sizes, strict=True)]
    return tuple(_cut(photo, matrix, size) for matrix, size in zip(matrices, sizes, strict=True))


def cut_chip(sample: Sample, which: int, size: tuple[int, int]) -> Tensor:
    """Cut the chip of the network numbered ``which`` without augmentation, float32 [1, 3, h, w] in [0, 1]."""
    return _cut(as_tensor(sample.pixels), sample.matrices[which], size)


def _cut(photo: Tensor, matrix: Points, size: tuple[int, int]) -> Tensor:
    return ChipCutter(matrix, size, (photo.shape[2], photo.shape[3]), photo.device)(photo)


def _mirrored(matrix: Points, photo_width: int, chip_width: int) -> Points:
    """Complete a mirrored matrix: photo x becomes width - 1 - x, and so does chip x."""
    matrix = matrix.copy()
    matrix[0, 2] += photo_width - 1
    matrix[:, 2] += matrix[:, 0] * (chip_width - 1)
    matrix[:, 0] *= -1
    return matrix
