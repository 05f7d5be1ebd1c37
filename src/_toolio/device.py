"""Which device a command computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _toolio.errors import ToolError

if TYPE_CHECKING:
    import torch


def pick_device(spec: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that is there.

    Raises
    ------
    ToolError
        A GPU was asked for that is not there.
    """
    import torch

    if spec == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = spec.partition(":")
    # The text is asked, as torch keeps the index in one byte and takes cuda:256 for cuda:0.
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ToolError(f"--device {spec}: {torch.cuda.device_count()} GPUs found; use --device auto")
    return torch.device(spec)
