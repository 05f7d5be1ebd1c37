"""The precision that a model computes in."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Precision(StrEnum):
    """What to compute in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def in_half(precision: Precision, device: torch.device) -> bool:
    """Tell whether to compute in bfloat16."""
    import torch

    if precision is Precision.auto:
        # Older GPUs emulate bfloat16, which is slower than float32.
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision is Precision.bfloat16
