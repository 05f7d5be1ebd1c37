"""Windows of MTCNN's networks: bounding-box regression, squares, non-maximum suppression, cutting them out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetools.faces.face import Face

_SAME: Final = 0.3  # of the smaller box: two looks that share so much of it have found one face


@dataclass(frozen=True, slots=True)
class Windows:
    """N windows in a batch of photos: boxes [N, 4] in photo pixels, which photo [N], probability [N].

    They are arrays, and on the CPU wherever the networks run: they are few, and a step on a few numbers takes torch
    several times as long as NumPy.
    """

    boxes: NDArray[np.float32]
    photo: NDArray[np.int64]
    score: NDArray[np.float32]

    def __getitem__(self, which: NDArray[Any] | slice) -> Windows:
        return Windows(self.boxes[which], self.photo[which], self.score[which])


def square(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge boxes [N, 4] about their middles to squares of their longer sides, at least 1 pixel."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True), 1) / 2
    return np.concatenate([middle - half, middle + half], 1)


def moved(boxes: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each side of boxes [N, 4] by offsets [N, 4] in units of their widths and heights."""
    sides = boxes[:, 2:] - boxes[:, :2]
    change: NDArray[np.float32] = np.concatenate([sides, sides], 1) * offsets
    return boxes + change


def suppress(windows: Windows, group: NDArray[np.int64], overlap: float) -> NDArray[np.int64]:
    """Suppress non-maxima within each group, int64 [N], by intersection over union; returns the kept indices, int64."""
    if len(group) < 2:
        return np.arange(len(group))
    boxes: NDArray[Any] = windows.boxes
    if (group != group[0]).any():
        # Groups are moved apart, so far that no window of one meets one of another; float32 would round there.
        boxes = boxes.astype(np.float64)
        boxes += (group * (boxes.max() - boxes.min() + 1))[:, None]
    score = windows.score.astype(boxes.dtype, copy=False)
    kept: NDArray[np.int64] = nms(torch.from_numpy(boxes), torch.from_numpy(score), overlap).numpy()
    return kept


def suppress_nested(boxes: NDArray[np.float64], score: NDArray[np.float64], overlap: float) -> list[int]:
    """Suppress non-maxima by intersection over the smaller box, so that nested boxes go too; returns kept indices."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive = np.ones(len(boxes), dtype=bool)
    kept = []
    for i in np.argsort(-score, kind="stable").tolist():
        if alive[i]:
            kept.append(i)
            shared = np.minimum(boxes[i, 2:], boxes[:, 2:]) - np.maximum(boxes[i, :2], boxes[:, :2])
            alive &= shared.clip(min=0).prod(1) <= overlap * np.minimum(areas[i], areas)
    return kept


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Sort faces by their boxes' areas, equal ones by their confidence."""
    return sorted(faces, key=lambda face: (-face.area, -face.certainty))


def with_others(found: Sequence[Face], others: Iterable[Face]) -> list[Face]:
    """Add those of another look to the faces found, largest first.

    Only those that overlap none; among themselves the most probable counts.
    """
    kept = list(found)
    for face in sorted(others, key=lambda face: -face.certainty):
        if all(_shared(face, other) <= _SAME * min(face.area, other.area) for other in kept):
            kept.append(face)
    return largest_first(kept)


def _shared(face: Face, other: Face) -> float:
    """Return the area that two faces' boxes share, in square pixels."""
    x0, y0 = (max(a, b) for a, b in zip(face.box[:2], other.box[:2], strict=True))
    x1, y1 = (min(a, b) for a, b in zip(face.box[2:], other.box[2:], strict=True))
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)


@cache
def _operators() -> Any:
    """Load torchvision's operators from their library, or by importing torchvision if it lies elsewhere.

    ``import torchvision`` takes as long as torch itself, since it brings torch's compiler along. Its operators lie in
    one library, which torch loads in 2 ms.
    """
    spec = find_spec("torchvision")
    for folder in spec.submodule_search_locations or () if spec else ():
        for library in sorted(Path(folder).glob("_C*.so")):
            try:
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            except OSError:  # built for another torch; torchvision's own import says so
                continue
    if not hasattr(torch.ops.torchvision, "nms"):
        importlib.import_module("torchvision.ops")
    return torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Suppress non-maxima: drop each box that overlaps a more probable one by more than ``overlap``.

    Parameters
    ----------
    boxes
        float [N, 4], (x0, y0, x1, y1).
    scores
        float [N].
    overlap
        Intersection over union, 0 to 1.

    Returns
    -------
    int64 [M]
        Indices of the boxes that are kept, the most probable first.
    """
    return cast(Tensor, _operators().nms(boxes, scores, overlap))


def roi_align(pictures: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut windows out of pictures, one bilinear sample a pixel, zero beyond the picture.

    Parameters
    ----------
    pictures
        float32 [B, C, H, W].
    boxes
        float32 [N, 5]: which picture, and (x0, y0, x1, y1) measured between its pixels.
    side
        Height and width of what is cut out.

    Returns
    -------
    float32 [N, C, side, side]
    """
    return cast(Tensor, _operators().roi_align(pictures, boxes, 1.0, side, side, 1, True))
