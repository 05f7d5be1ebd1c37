"""Gaussian blur as banded matrix products."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


@lru_cache(64)
def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Return a normalised 1-D Gaussian, float32 [size]."""
    # What is made in inference mode can never be part of a gradient, and this is kept for both.
    with torch.inference_mode(False):
        steps = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        weights = torch.exp(-(steps**2) / (2 * sigma**2))
        return (weights / weights.sum()).float()


def smooth(photos: Tensor, size: int, sigma: float) -> Tensor:
    """Blur each channel with a Gaussian, edges reflected (repeated where a side is too short to reflect).

    Parameters
    ----------
    photos
        float [B, C, H, W].
    size
        Odd side of the kernel, pixels.
    sigma
        Standard deviation, pixels.
    """
    half = size // 2
    mode = "reflect" if min(photos.shape[-2:]) > half else "replicate"
    return _blur_inside(F.pad(photos, (half, half, half, half), mode=mode), size, sigma)


_BLOCK = {"cpu": 32, "cuda": 512}
"""Lines blurred by one matrix product. Small blocks compute less, large ones launch less."""


@lru_cache(64)
def _band(length: int, size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix that blurs a line without padding, [length, length + size - 1]."""
    kernel = gaussian_kernel(size, sigma)
    with torch.inference_mode(False):
        rows = torch.zeros(length, length + size - 1)
        for row in range(length):
            rows[row, row : row + size] = kernel
        return rows.to(device, dtype)


def gaussian_blur(planes: Tensor, size: int, sigma: float, padding: int) -> Tensor:
    """Blur [P, H, W] with ``padding`` zeros around each plane: sides grow by ``2 * padding - size + 1``.

    Products with a band matrix, block by block, are several times as fast on a CPU as depthwise convolutions,
    forward and backward.
    """
    planes = planes.contiguous()
    count, height, width = planes.shape
    wide, high = width + 2 * padding - size + 1, height + 2 * padding - size + 1
    block = _BLOCK.get(planes.device.type, 512)
    band = _band(min(block, max(wide, high)), size, sigma, planes.device, planes.dtype)
    across, out = planes.new_empty(count, height, wide), planes.new_empty(count, high, wide)
    lines, blurred = planes.view(-1, width), across.view(-1, wide)
    for start in range(0, wide, block):
        rows, source, stop = _block(start, wide, width, block, size, padding)
        torch.mm(lines[:, source], band[:rows, stop].T, out=blurred[:, start : start + rows])
    for start in range(0, high, block):
        rows, source, stop = _block(start, high, height, block, size, padding)
        torch.bmm(band[:rows, stop].expand(count, -1, -1), across[:, source], out=out[:, start : start + rows])
    return out


def _block(start: int, total: int, length: int, block: int, size: int, padding: int) -> tuple[int, slice, slice]:
    """Return a block's number of lines, the source lines it reads, and the columns of the band matrix it uses."""
    rows = min(block, total - start)
    first = start - padding
    low, high = max(0, first), min(length, first + rows + size - 1)
    return rows, slice(low, high), slice(low - first, high - first)


class _Blur(torch.autograd.Function):
    """``gaussian_blur`` with its gradient, which is a blur again: the kernel is symmetric."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, size: int, sigma: float, padding: int) -> Tensor:
        ctx.how = size, sigma, padding
        return gaussian_blur(planes, size, sigma, padding)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        size, sigma, padding = ctx.how
        return _Blur.apply(slope, size, sigma, size - 1 - padding), None, None, None


def _blur_inside(photos: Tensor, size: int, sigma: float) -> Tensor:
    """Blur float [B, C, H, W] without padding: the result is ``size - 1`` smaller."""
    blurred: Tensor = _Blur.apply(photos.flatten(0, 1), size, sigma, 0)
    return blurred.view(*photos.shape[:2], *blurred.shape[-2:])
