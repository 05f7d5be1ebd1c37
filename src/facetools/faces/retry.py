"""Changed views of a photo to search again: stretched contrast, rotation."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from facetools.faces.face import Face


def stretch_contrast(photo: Tensor) -> Tensor | None:
    """Stretch a photo's contrast: its 1st percentile becomes 0, its 99th 255.

    Parameters
    ----------
    photo
        uint8 [3, H, W].

    Returns
    -------
    Tensor or None
        uint8 [3, H, W]; None where that would change next to nothing, or where the photo is one flat grey.
    """
    step = max(1, math.isqrt(photo[0].numel() // 250_000))  # a quarter of a million pixels tell enough
    sample = photo[:, ::step, ::step].reshape(-1).long()
    counts = torch.bincount(sample, minlength=256).cpu().numpy().cumsum()
    low, high = (int(np.searchsorted(counts, share * counts[-1])) for share in (0.01, 0.99))
    if high - low < 4 or high - low > 230:
        return None
    return photo.float().sub_(low).mul_(255 / (high - low)).round_().clamp_(0, 255).byte()


def turn(photo: Tensor, angle: float) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Rotate a photo [3, H, W], 0 to 255, about its middle, on a canvas that contains all of it.

    Returns the canvas as uint8, mid-grey beyond the photo, and what leads from its points back to the photo's: a
    matrix [2, 2] and a shift [2], both for points measured between pixels.
    """
    height, width = photo.shape[1:]
    cos, sin = math.cos(angle), math.sin(angle)
    h = math.ceil(width * abs(sin) + height * abs(cos))
    w = math.ceil(width * abs(cos) + height * abs(sin))
    matrix = np.array([[cos, -sin], [sin, cos]])
    shift = np.array([width / 2, height / 2]) - matrix @ [w / 2, h / 2]
    # grid_sample measures both pictures from -1 to 1.
    relative = matrix * [[w / width, h / width], [w / height, h / height]]
    theta = torch.tensor(np.c_[relative, [0, 0]], dtype=torch.float32, device=photo.device)[None]
    grid = F.affine_grid(theta, [1, 3, h, w], align_corners=False)
    grey = 127.5  # taken off and put back, as grid_sample knows no filling but zero
    turned = F.grid_sample(photo[None].float() - grey, grid, align_corners=False)[0] + grey
    return turned.round_().clamp_(0, 255).byte(), matrix, shift


def quarter_turn(photos: Tensor, quarters: int) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Rotate photos [..., H, W] by quarter turns, pixel by pixel; 1 is what ``turn`` does by 90 degrees.

    Returns what ``turn`` does.
    """
    height, width = photos.shape[-2:]
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    h, w = (width, height) if sin else (height, width)
    matrix = np.array([[cos, -sin], [sin, cos]], np.float64)
    shift = np.array([width / 2, height / 2]) - matrix @ [w / 2, h / 2]
    return torch.rot90(photos, quarters, (-2, -1)), matrix, shift


def turn_back(face: Face, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Face:
    """Map a face on a rotated photo back.

    The box's middle is mapped; its sides are kept, and exchanged after a quarter turn.
    """
    x0, y0, x1, y1 = face.box
    x, y = (matrix @ [(x0 + x1) / 2, (y0 + y1) / 2] + shift).tolist()
    half_w, half_h = (x1 - x0) / 2, (y1 - y0) / 2
    if matrix[0, 0] == 0:  # exactly: by quarter_turn
        half_w, half_h = half_h, half_w
    landmarks = (face.landmarks + 0.5) @ matrix.T + shift - 0.5
    return Face((x - half_w, y - half_h, x + half_w, y + half_h), face.confidence, landmarks)
