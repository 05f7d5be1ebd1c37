"""Cut the square crops of a face that the detector's network is shown."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from facetools.photos.photo import Pixels

LARGEST_PX = 256
"""Of a larger square the network sees the centre at full resolution, and the whole reduced."""

REDUCED_PX = 192
"""Side of the reduced square: attacks work at a recogniser's resolution, and enlarge the change to a larger face's."""

CROP_SCALE = 1.3
"""Side of the square, in sides of the face's box."""

SMALLEST_PX = 8
"""Least side of a crop."""

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


def face_crops(pixels: Pixels, box: Box) -> list[Pixels]:
    """Cut the crops of a face that the network is shown, uint8 [h, w, 3] each.

    That is the square around its box at the photo's own resolution: scaling would hide a cloak. Of a square larger than
    ``LARGEST_PX`` it is a copy reduced to ``REDUCED_PX``, and the centre. Empty if too little is in the photo.
    """
    whole = cut_square(pixels, box, CROP_SCALE, 10**9)
    if whole is None or max(whole.shape[:2]) <= LARGEST_PX:
        return [] if whole is None else [whole]
    middle = cut_square(pixels, box, CROP_SCALE, LARGEST_PX)
    return [_reduced(whole)] + ([] if middle is None else [middle])


def _reduced(part: Pixels) -> Pixels:
    longest = max(part.shape[:2])
    size = [max(SMALLEST_PX, round(side * REDUCED_PX / longest)) for side in part.shape[:2]]
    tensor = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
    small = F.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
