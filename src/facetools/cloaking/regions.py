"""Face regions, the part of a photo that an attack may change: locate, cut out, bring a change back to full size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from facetools.extractors.extractor import Extractor
from facetools.faces.alignment import Points, chip_corners, chip_matrix, scale_of
from facetools.faces.face import Face
from facetools.photos.photo import Pixels, as_tensor

if TYPE_CHECKING:
    import torch

MARGIN_PX = 4
"""Room around a chip's footprint for the attack's blur."""

FADE = 0.06
"""A change fades out over this share of a region's shorter side, so that no edge of it can be seen."""

LARGEST_SCALE = 1.2
"""Photo pixels per chip pixel up to which an attack works on the photo's own pixels. Larger faces are
reduced to this scale, and the change is enlarged: the recogniser sees no more detail than that. A little
below the scale from which on a chip takes four samples a pixel, so that rounding never decides."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a photo that an attack on one face may change.

    Attributes
    ----------
    top, left, height, width
        In photo pixels, inside the photo.
    scale
        Photo pixels per pixel that the attack works on, 1 or more.
    matrices
        For each extractor [2, 3], chip pixels to the attack's pixels.
    inner
        Which of the edges top, bottom, left and right lie inside the photo.
    """

    top: int
    left: int
    height: int
    width: int
    scale: float
    matrices: tuple[Points, ...]
    inner: tuple[bool, bool, bool, bool]

    @property
    def work_size(self) -> tuple[int, int]:
        """Height and width that the attack works on."""
        return max(1, round(self.height / self.scale)), max(1, round(self.width / self.scale))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the photo."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def to_work(self, matrix: Points) -> Points:
        """Convert an affine map [2, 3] to photo pixels into one to the attack's pixels."""
        # Pixel centres: photo x is (work x + 0.5) * ratio - 0.5 + left.
        work_height, work_width = self.work_size
        ratio = np.array([self.width / work_width, self.height / work_height])
        moved = matrix.copy()
        moved[:, 2] = (moved[:, 2] - (self.left, self.top) + 0.5) / ratio - 0.5
        moved[:, :2] /= ratio[:, None]
        return moved


def locate_region(pixels: Pixels, face: Face, extractors: Sequence[Extractor]) -> Region | None:
    """Return the part of the photo that the extractors' chips are cut from; None if it lies outside the photo."""
    height, width = pixels.shape[:2]
    matrices = [chip_matrix(face, (height, width), e.alignment, e.size) for e in extractors]
    corners = np.concatenate([chip_corners(matrix, e.size) for e, matrix in zip(extractors, matrices, strict=True)])
    left, top = (max(0, math.floor(low) - MARGIN_PX) for low in corners.min(0))
    right, bottom = (
        min(size, math.ceil(high) + MARGIN_PX + 1) for high, size in zip(corners.max(0), (width, height), strict=True)
    )
    if right - left < 8 or bottom - top < 8:
        return None
    finest = min(scale_of(matrix) for matrix in matrices)
    scale = finest / LARGEST_SCALE if finest > LARGEST_SCALE else 1.0
    inner = (top > 0, bottom < height, left > 0, right < width)
    region = Region(top, left, bottom - top, right - left, scale, (), inner)
    work = tuple(region.to_work(matrix) for matrix in matrices)
    return Region(top, left, bottom - top, right - left, scale, work, inner)


def cut_out(pixels: Pixels, region: Region, device: torch.device) -> torch.Tensor:
    """Cut a region out of uint8 [H, W, 3] at the scale of the attack: float32 [1, 3, h, w] in [0, 1]."""
    import torch.nn.functional as F  # noqa: N812

    tensor = as_tensor(pixels[region.slices], device)
    if region.scale == 1:
        return tensor
    return F.interpolate(tensor, region.work_size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def fade_mask(region: Region, device: torch.device) -> torch.Tensor:
    """Return the weight of a change: 1, falling to 0 towards edges inside the photo, float32 [1, 1, h, w]."""
    import torch

    height, width = region.work_size
    ramp = max(MARGIN_PX, FADE * min(height, width))

    def line(length: int, first: bool, last: bool) -> torch.Tensor:
        near = (torch.arange(length, dtype=torch.float64) + 0.5) / ramp
        out = torch.ones(length, dtype=torch.float64)
        for at_edge, distance in ((first, near), (last, near.flip(0))):
            if at_edge:
                out = out * (0.5 - 0.5 * torch.cos(math.pi * distance.clamp(max=1)))
        return out

    top, bottom, left, right = region.inner
    rows, columns = line(height, top, bottom), line(width, left, right)
    return (rows[:, None] * columns).float()[None, None].to(device)


def enlarge_change(change: torch.Tensor, region: Region) -> npt.NDArray[np.float32]:
    """Resize a change, float32 [1, 3, h, w] in [-1, 1], to its region in the photo: [height, width, 3], -255 to 255."""
    import torch.nn.functional as F  # noqa: N812

    if region.scale != 1:
        low, high = change.amin(), change.amax()
        change = F.interpolate(change, (region.height, region.width), mode="bicubic", align_corners=False)
        # Bicubic enlargement overshoots; an attack's bound must hold in the photo too.
        change = change.clamp(low, high)
    array: npt.NDArray[np.float32] = change[0].permute(1, 2, 0).cpu().numpy() * 255
    return array
