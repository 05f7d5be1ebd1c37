"""From a face in a photo to the chip that a recogniser sees, differentiably."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Points = npt.NDArray[np.float64]

MOST_SAMPLES = 16
"""Samples along each side of a chip pixel, at most."""


def similarity_to(points: Points, template: Points) -> Points:
    """Find the similarity that lays a template over points, by least squares (Umeyama 1991).

    Parameters
    ----------
    points
        [5, 2], landmarks in photo pixels.
    template
        [5, 2], where they belong in the chip, in chip pixels.

    Returns
    -------
    [2, 3]
        Maps chip pixels to photo pixels. Pixel centres are at whole numbers on both sides.
    """
    source, target = np.asarray(template, np.float64), np.asarray(points, np.float64)
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    u, singular, vt = np.linalg.svd((target - mean_target).T @ centred / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    scale = float(singular @ sign) / max(centred.var(0).sum(), 1e-12)
    linear = scale * (u * sign) @ vt
    return np.column_stack([linear, mean_target - linear @ mean_source])


def oversampling(matrix: Points) -> int:
    """Give how many samples a chip pixel needs along each side so that a large face is not aliased.

    Not more than ``MOST_SAMPLES``, which average out any texture: a grid for each pixel of a face that is
    thousands of pixels wide would take gigabytes.
    """
    return min(MOST_SAMPLES, max(1, math.ceil(math.sqrt(abs(float(np.linalg.det(matrix[:, :2])))) - 0.25)))


class ChipCutter:
    """Cuts one chip out of photos of one size.

    Samples bilinearly; where the face is larger than the chip, several samples a pixel are averaged.

    Parameters
    ----------
    matrix
        [2, 3], chip pixels to photo pixels, from ``similarity_to``.
    size
        Side of the chip in pixels.
    photo_size
        Height and width of the photos.
    device
        Where the photos are.
    """

    def __init__(self, matrix: Points, size: int, photo_size: tuple[int, int], device: torch.device) -> None:
        import torch

        self._factor = oversampling(matrix)
        steps = (torch.arange(size * self._factor, dtype=torch.float64) + 0.5) / self._factor - 0.5
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        chip = torch.stack([x, y, torch.ones_like(x)], -1)  # [S, S, 3]
        spot = chip @ torch.from_numpy(np.ascontiguousarray(matrix.T))  # [S, S, 2] in photo pixels
        extent = torch.tensor([photo_size[1], photo_size[0]], dtype=torch.float64)
        self._grid = ((2 * spot + 1) / extent - 1)[None].float().to(device)

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """Cut: float32 [B, 3, H, W] -> [B, 3, size, size], differentiable. Beyond an edge its nearest pixel counts."""
        import torch.nn.functional as F  # noqa: N812 - the name that everyone knows

        grid = self._grid.expand(len(photos), -1, -1, -1)
        sampled = F.grid_sample(photos, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return F.avg_pool2d(sampled, self._factor) if self._factor > 1 else sampled
