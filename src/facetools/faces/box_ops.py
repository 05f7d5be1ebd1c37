"""Call torchvision's operators on boxes without importing torchvision.

``import torchvision`` takes as long as torch itself, since it brings torch's compiler along. Its operators lie in one
library, which torch loads in 2 ms.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["nms", "roi_align"]


@cache
def _operators() -> Any:
    """Load the operators from their library, or by importing torchvision if it lies elsewhere."""
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
