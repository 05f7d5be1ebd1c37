"""The perceptual distance in attacks' objectives: LPIPS, or its substitute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from facetools.perceptual.lpips import open_lpips
from facetools.perceptual.ssim import Substitute


class Distance(Protocol):
    """A perceptual distance."""

    name: str
    sha256: str | None

    def to(self, clean: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> DistanceTo:
        """Prepare for distances to one batch of clean photos, float32 [B, 3, H, W]; the rest is padding."""

    def distance(self, photos: Tensor, clean: Tensor) -> Tensor:
        """Return the distance, float32 [B], of float32 [B, 3, H, W]."""


class DistanceTo(Protocol):
    """Distances to one batch of clean photos."""

    def __call__(self, photos: Tensor) -> Tensor:
        """Return the distances, float32 [m * B], of m versions of the batch, [m * B, 3, H, W]."""


def open_distance(weights: Path | None, *, allow_download: bool, device: torch.device) -> Distance:
    """Open LPIPS if AlexNet's weights are available (see ``open_lpips``), else its substitute."""
    return open_lpips(weights, allow_download=allow_download, device=device) or Substitute()
