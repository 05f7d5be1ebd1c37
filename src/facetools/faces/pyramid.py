"""Image pyramid of MTCNN: photos at falling sizes, laid out for P-Net, and cut into crops for R-Net and O-Net.

And tiles of a panorama, each of which has a pyramid of its own, which bounds the memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetools.faces import mtcnn
from facetools.faces.face import Face
from facetools.faces.windows import Windows, roi_align, with_others

P_STEP: Final = 2  # P-Net's windows are this far apart
_CANVAS_STEP: Final = 32  # sides of a canvas are multiples: oneDNN generates code for each size that it has not seen
_SMALL: Final = 100_000  # pixels of a level that is converted faster as a whole than in parts
_TILE: Final = 3  # a tile is this many times as long as wide; the next begins one width before it ends
_TILE_WIDTH: Final = 256  # what a narrower photo's tiles are cut as if it had: a strip one pixel wide gives few too


@dataclass(frozen=True, eq=False)
class Level:
    """The photos at one size: bytes [B, 3, h, w], and the (x, y) scale from photo pixels to this level's."""

    pixels: Tensor
    scale: tuple[float, float]
    proposes: bool  # False: too fine for P-Net, kept for the crops of R-Net and O-Net only

    @cached_property
    def _whole(self) -> Tensor:
        return torch.empty(self.pixels.shape, device=self.pixels.device).copy_(self.pixels).sub_(mtcnn.GREY)

    def centred(self, boxes: NDArray[np.float32]) -> Tensor:
        """Return float32 [B, 3, h, w] as the networks take it, true only where samples of boxes [N, 4] lie.

        The rest is never read, nor written: a few windows of a large photo take a small part of it. A small level is
        converted as a whole, once.
        """
        height, width = self.pixels.shape[2:]
        if height * width <= _SMALL:
            return self._whole
        (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        # A bilinear sample reads the pixel at or before it and the next one, if only to multiply it by zero; one beyond
        # the picture reads the first pixel so.
        columns = slice(int(min(max(x0 - 1, 0), width - 1)), int(min(max(x1 + 2, 2), width)))
        rows = slice(int(min(max(y0 - 1, 0), height - 1)), int(min(max(y1 + 2, 2), height)))
        pixels = torch.empty(self.pixels.shape, device=self.pixels.device)
        pixels[..., 0, 0] = 0
        pixels[..., rows, columns].copy_(self.pixels[..., rows, columns]).sub_(mtcnn.GREY)
        return pixels


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions of pictures side by side in one canvas, since a pass of P-Net costs more than a tenth of its pixels.

    Attributes
    ----------
    size
        Height and width of the whole.
    corners
        (top, left) of each picture, even numbers.
    picture_of
        int16 [rows, columns] of P-Net's windows: the picture that each lies in, -1 for none.
    """

    size: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    picture_of: NDArray[np.int16]


def cut_crops(levels: Sequence[Level], windows: Windows, side: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Crop N windows from their photos: float32 [N, 3, side, side], mid-grey beyond the photo.

    A crop comes from the coarsest level at which the window is about as wide as the crop, so one sample a
    pixel is enough: the level has been smoothed already. The crops come level by level; whose each is says the
    array, int64 [N].
    """
    scales = np.array([level.scale for level in levels], np.float32)  # falling
    wide_enough = (windows.boxes[:, 2:3] - windows.boxes[:, :1]) * scales[:, 0] >= np.float32(0.9 * side)  # [N, levels]
    level_of = np.maximum(wide_enough.sum(1) - 1, 0)
    order = np.argsort(level_of, kind="stable")
    boxes = windows.boxes[order] * np.tile(scales, 2)[level_of[order]]
    rois = np.concatenate([windows.photo[order, None].astype(np.float32), boxes], 1)
    ends = np.bincount(level_of, minlength=len(levels)).cumsum().tolist()
    device = levels[0].pixels.device
    parts = [
        roi_align(level.centred(rois[start:end, 1:]), torch.from_numpy(rois[start:end]).to(device), side)
        for level, start, end in zip(levels, [0, *ends], ends, strict=False)
        if end > start
    ]
    return torch.cat(parts), order


@lru_cache(64)
def lay_out(sizes: tuple[tuple[int, int], ...]) -> Layout:
    """Pack pictures (height, width), the largest first, into a canvas about as wide as the first."""
    even = [[side + side % P_STEP for side in size] for size in sizes]
    total, across = sum(height for height, _ in even), _rounded_up(even[0][1])
    free = [(0, 0, total, across)]  # (top, left, height, width), of which the last is what lies below all
    corners = []
    for height, width in even:
        slot = next(i for i, (_, _, h, w) in enumerate(free) if h >= height and w >= width)
        top, left, h, w = free.pop(slot)
        corners.append((top, left))
        free[slot:slot] = [(top, left + width, height, w - width), (top + height, left, h - height, w)]
    bottom = _rounded_up(max(top + height for (top, _), (height, _) in zip(corners, even, strict=True)))
    picture_of = np.full(_windows_of((bottom, across)), -1, np.int16)
    for number, ((top, left), size) in enumerate(zip(corners, sizes, strict=True)):
        rows, columns = _windows_of(size)
        picture_of[top // 2 : top // 2 + rows, left // 2 : left // 2 + columns] = number
    return Layout((bottom, across), tuple(corners), picture_of)


def _rounded_up(side: int) -> int:
    return -(-side // _CANVAS_STEP) * _CANVAS_STEP


def _windows_of(size: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of P-Net's windows in a picture."""
    return (size[0] - 1) // P_STEP - 4, (size[1] - 1) // P_STEP - 4


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a photo, from ``left`` and ``top`` to before ``right`` and ``bottom``, in photo pixels.

    Faces whose middle lies between ``first`` and ``last``, along the photo's longer side, are this tile's.
    """

    left: int
    top: int
    right: int
    bottom: int
    first: float
    last: float


def tiles_of(height: int, width: int) -> list[Tile]:
    """Divide a photo into tiles along its longer side; into one unless it is over three times as long as wide.

    Two tiles share a piece as long as the photo is wide, so that each face lies in one of them as a whole.
    """
    across, along = max(_TILE_WIDTH, min(height, width)), max(height, width)
    long = _TILE * across
    if along <= long:
        return [Tile(0, 0, width, height, -math.inf, math.inf)]
    starts = [*range(0, along - long, long - across), along - long]
    bounds = [-math.inf, *((before + long + start) / 2 for before, start in pairwise(starts)), math.inf]
    own = list(pairwise(bounds))
    if width >= height:
        return [Tile(start, 0, start + long, height, *own[i]) for i, start in enumerate(starts)]
    return [Tile(0, start, width, start + long, *own[i]) for i, start in enumerate(starts)]


def join_tiles(tiles: Sequence[Tile], found: Sequence[Sequence[Face]]) -> list[Face]:
    """Join the faces of each tile, in its pixels, to those of the photo, largest first."""
    own: list[Face] = []
    others: list[Face] = []
    upright = any(tile.top for tile in tiles)
    for tile, faces in zip(tiles, found, strict=True):
        for face in (each.shifted((tile.left, tile.top)) for each in faces):
            middle = (face.box[upright] + face.box[upright + 2]) / 2
            (own if tile.first <= middle < tile.last else others).append(face)
    # What only the other tile has found counts as well.
    return with_others(own, others)
