"""Align faces: the affine map of a chip, the aligned crop that an extractor takes, and its differentiable sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from facetools.faces.templates import TEMPLATES

if TYPE_CHECKING:
    import torch

    from facetools.faces.face import Face

Points = npt.NDArray[np.float64]

CENTER_ROOM = 1.5
"""A ``center`` chip of a face that was found is this many times as large as the box: hair and chin are in it, as in the
crops that people give CLIP."""

MOST_SAMPLES = 16
"""Samples along each side of a chip pixel, at most."""


def template_of(alignment: str, size: tuple[int, int]) -> Points | None:
    """Return the landmarks' positions in a chip, [5, 2], or None for an alignment without landmarks.

    Parameters
    ----------
    alignment
        One of ``ALIGNMENTS``.
    size
        Height and width of the chip. The template is scaled to the height; a chip that is narrower or wider than
        high shows less or more of the sides (112x96 is columns 8 to 104 of 112x112).
    """
    if alignment not in TEMPLATES:
        return None
    side, points = TEMPLATES[alignment]
    height, width = size
    scaled = (np.array(points) + 0.5) * (height / side) - 0.5
    scaled[:, 0] += (width - height) / 2
    return scaled


def chip_matrix(face: Face, photo_size: tuple[int, int], alignment: str, size: tuple[int, int]) -> Points:
    """Return the affine map of a face's chip.

    Parameters
    ----------
    face
        The face. Of an aligned crop the whole photo is the chip, or its middle for ``center``.
    photo_size
        Height and width of the photo.
    alignment
        One of ``ALIGNMENTS``.
    size
        Height and width of the chip.

    Returns
    -------
    [2, 3]
        Maps chip pixels to photo pixels. Pixel centres are at whole numbers on both sides.
    """
    template = template_of(alignment, size)
    if template is not None and not face.is_crop:
        return similarity_to(face.landmarks, template)
    height, width = photo_size
    box = (0.0, 0.0, float(width), float(height))
    if alignment == "mtcnn-160" and not face.is_crop:
        box = face.box
    elif alignment == "center":
        box = _centred(box, size, min) if face.is_crop else _centred(face.box, size, max, CENTER_ROOM)
    x_scale, y_scale = (box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0]
    return np.array([[x_scale, 0, box[0] + x_scale / 2 - 0.5], [0, y_scale, box[1] + y_scale / 2 - 0.5]])


def _centred(
    box: tuple[float, float, float, float], size: tuple[int, int], fit: Callable[[float, float], float], room: float = 1
) -> tuple[float, float, float, float]:
    """Return a box with the same middle and a chip's aspect ratio: inside (``fit`` is min) or around (max) it."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    ratio = room * fit((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0])
    half_x, half_y = ratio * size[1] / 2, ratio * size[0] / 2
    return x - half_x, y - half_y, x + half_x, y + half_y


def chip_corners(matrix: Points, size: tuple[int, int]) -> Points:
    """Return the centres of a chip's corner pixels in photo pixels, [4, 2] as (x, y)."""
    corners: Points = np.array([[x, y, 1.0] for x in (0, size[1] - 1) for y in (0, size[0] - 1)]) @ matrix.T
    return corners


def chip_landmarks(
    face: Face, photo_size: tuple[int, int], alignment: str, size: tuple[int, int]
) -> list[list[float]] | None:
    """Return a face's landmarks in its chip, (x, y) in chip pixels; the template's where it has one."""
    template = template_of(alignment, size)
    if template is not None or face.is_crop:
        return None if template is None else template.tolist()
    matrix = chip_matrix(face, photo_size, alignment, size)
    placed: list[list[float]] = np.linalg.solve(matrix[:, :2], (face.landmarks - matrix[:, 2]).T).T.round(3).tolist()
    return placed


def similarity_to(points: npt.ArrayLike, template: Points) -> Points:
    """Return the least-squares similarity transform from a template to points (Umeyama 1991).

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


def scale_of(matrix: Points) -> float:
    """Return the length of a chip pixel in photo pixels."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def oversampling(matrix: Points) -> int:
    """Return the samples along each side of a chip pixel that avoid aliasing of a large face.

    Not more than ``MOST_SAMPLES``, which average out any texture: a grid for each pixel of a face that is
    thousands of pixels wide would take gigabytes.
    """
    return min(MOST_SAMPLES, max(1, math.ceil(scale_of(matrix) - 0.25)))


class ChipCutter:
    """Cut one chip out of photos of one size, differentiably.

    Samples bilinearly; where the face is larger than the chip, several samples a pixel are averaged.

    Parameters
    ----------
    matrix
        [2, 3], chip pixels to photo pixels, from ``chip_matrix``.
    size
        Height and width of the chip in pixels.
    photo_size
        Height and width of the photos.
    device
        Device of the photos.
    inside
        Height and width of what counts where the photos are padded at the bottom and the right.
    """

    def __init__(
        self,
        matrix: Points,
        size: tuple[int, int],
        photo_size: tuple[int, int],
        device: torch.device,
        *,
        inside: tuple[int, int] | None = None,
    ) -> None:
        import torch

        self._factor = oversampling(matrix)
        rows, columns = (
            (torch.arange(side * self._factor, dtype=torch.float64) + 0.5) / self._factor - 0.5 for side in size
        )
        # A sum of what a column and what a row adds, [S, S, 2] in photo pixels.
        (xx, xy, x0), (yx, yy, y0) = matrix.tolist()
        along = torch.stack([columns * xx + x0, columns * yx + y0], -1)
        down = torch.stack([rows * xy, rows * yy], -1)
        spot = along + down[:, None]
        if inside is not None and inside != photo_size:
            # What lies beyond the edge is its nearest pixel, and no padding.
            spot = torch.minimum(spot, torch.tensor([inside[1] - 1, inside[0] - 1], dtype=torch.float64))
        extent = torch.tensor([photo_size[1], photo_size[0]], dtype=torch.float64)
        self._grid = spot.mul_(2).add_(1).div_(extent).sub_(1)[None].float().to(device)  # 90 MB for a large face

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """Cut: float32 [B, 3, H, W] -> [B, 3, height, width], differentiable. Beyond an edge its pixels count."""
        import torch.nn.functional as F  # noqa: N812 - the name that everyone knows

        grid = self._grid.expand(len(photos), -1, -1, -1)
        sampled = F.grid_sample(photos, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return F.avg_pool2d(sampled, self._factor) if self._factor > 1 else sampled
