"""Choose the floating-point precision of computation."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from _toolio.choices import choice_of
from _toolio.errors import param

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


def doubt_of(device: torch.device, *, half: bool) -> str:
    """Return a warning where ``half`` is several times slower than float32, as bfloat16 is emulated; else nothing."""
    if not half or device.type != "cpu" or not _emulates_bfloat16():
        return ""
    option = param("precision")
    return f"this CPU has no bfloat16, and emulates it, several times slower than float32; leave {option} out"


def _emulates_bfloat16() -> bool:
    """Test whether this CPU's products are those of oneDNN, and it has none of bfloat16: with AVX2 and less."""
    import torch

    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # torch's own tests ask it
    return known is not None and torch.backends.mkldnn.is_available() and not known()  # type: ignore[no-untyped-call]
