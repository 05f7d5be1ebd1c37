"""Random photos, and a blur by the definition, for the tests of perceptual distances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


def photos(count: int = 2, height: int = 40, width: int = 33, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def as_array(photo: torch.Tensor) -> Array:
    return photo.double().numpy()


def blurred_inside(plane: Array, window: int, sigma: float) -> Array:
    """By the definition: one window after the other."""
    steps = np.arange(window) - (window - 1) / 2
    kernel = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    height, width = (side - window + 1 for side in plane.shape)
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            out[y, x] = (plane[y : y + window, x : x + window] * kernel).sum()
    return out
