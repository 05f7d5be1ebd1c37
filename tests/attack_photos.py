"""Random photos for the tests of attacks."""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = (26, 30)


def photos(count: int = 3, *, grey: bool = False, size: tuple[int, int] = SIZE) -> Tensor:
    made = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(3))
    # Whole bytes, as photos have them; with black and white areas, where an attack meets the limits.
    made = (made * 1.4 - 0.2).clamp(0, 1).mul(255).round() / 255
    return made[:, :1].expand(-1, 3, -1, -1).contiguous() if grey else made
