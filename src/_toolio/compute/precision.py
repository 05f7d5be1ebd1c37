"""Choose the floating-point precision of computation."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from _toolio.choices import choice_of

if TYPE_CHECKING:
    import torch


class Precision(StrEnum):
    """Floating-point precision of computation; weights are float32 in any case."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def in_half(precision: Precision, device: torch.device) -> bool:
    """Test whether to compute in bfloat16: ``auto`` does on a GPU whose hardware has it."""
    import torch

    precision = choice_of(Precision, precision, "precision")
    if precision is Precision.auto:
        # Older GPUs emulate bfloat16, which is slower than float32.
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision is Precision.bfloat16
