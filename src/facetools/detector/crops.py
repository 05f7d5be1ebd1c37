"""Cut the square crops of a face that the detector's network is shown."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from facetools.photos.photo import Pixels

LARGEST_PX = 192
"""A larger square is reduced to this side. Attacks work at a recogniser's resolution and enlarge the change to a larger
face's: at this size all of it is there, and skin, noise and sharpening that only a large photo shows are not."""

CROP_SCALE = 1.3
"""Side of the square, in sides of the face's box."""

SMALLEST_PX = 8
"""Least side of a crop."""

Crop = Pixels | npt.NDArray[np.float32]
"""[h, w, 3], 0 to 255: bytes as they are in the photo, or floats of what was reduced."""

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) of a face, in pixels."""


def windows_of(shape: tuple[int, ...]) -> list[Box]:
    """Cover a photo of [H, W] with as few squares of ``LARGEST_PX`` as reach everywhere, evenly spread.

    Returns
    -------
    list
        Boxes (x0, y0, x1, y1), row by row; the photo itself where it is smaller.
    """

    def starts(length: int) -> list[int]:
        count = -(-length // LARGEST_PX)
        return [round(n * (length - LARGEST_PX) / (count - 1)) for n in range(count)] if count > 1 else [0]

    return [
        (float(x), float(y), float(min(x + LARGEST_PX, shape[1])), float(min(y + LARGEST_PX, shape[0])))
        for y in starts(shape[0])
        for x in starts(shape[1])
    ]


def cut_square(pixels: Pixels, box: Box, scale: float, largest: int) -> Pixels | None:
    """Cut the square around a face's box, at the photo's own resolution.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB.
    box
        (x0, y0, x1, y1), pixels.
    scale
        Side of the square, in longer sides of the box.
    largest
        Longest side in pixels; of a larger square the middle is cut.

    Returns
    -------
    uint8 [h, w, 3] or None
        A view, clipped to the photo; None if less than ``SMALLEST_PX`` a side are left.
    """
    left, top, right, bottom = square_of(box, scale, largest, pixels.shape[:2])
    return None if min(right - left, bottom - top) < SMALLEST_PX else pixels[top:bottom, left:right]


def square_of(box: Box, scale: float, largest: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the square around a box, (left, top, right, bottom), clipped to a photo of [H, W]."""
    x0, y0, x1, y1 = box
    half = min(scale * max(x1 - x0, y1 - y0), largest) / 2
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, math.floor(middle_x - half)), max(0, math.floor(middle_y - half))
    return left, top, min(shape[1], math.ceil(middle_x + half)), min(shape[0], math.ceil(middle_y + half))


def face_crops(pixels: Pixels, box: Box) -> list[Crop]:
    """Cut the crops of a face that the network is shown, [h, w, 3], 0 to 255, each.

    That is the square around its box, of which one larger than ``LARGEST_PX`` is reduced to that. Empty if too little
    is in the photo.
    """
    whole = cut_square(pixels, box, CROP_SCALE, 10**9)
    if whole is None:
        return []
    longest = max(whole.shape[:2])
    return [whole if longest <= LARGEST_PX else resized(whole, LARGEST_PX / longest)]


def resized(part: Pixels, factor: float) -> npt.NDArray[np.float32]:
    """Resize uint8 [h, w, 3] by a factor, antialiased bilinear, to at least ``SMALLEST_PX`` a side.

    Returns
    -------
    float32 [h', w', 3]
        0 to 255, not rounded: what is left of a faint cloak is less than a grey level.
    """
    size = [max(SMALLEST_PX, round(side * factor)) for side in part.shape[:2]]
    tensor = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
    small = F.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).contiguous().numpy()
