"""Test whether Triton kernels can be used."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

FUSED = frozenset({"cuda"})
"""Types of devices whose products unpack masks by themselves, in ``berttools.kernels.masks``."""


@cache
def triton_kernels() -> Any:
    """Give ``berttools.kernels.masks``; None where there is no Triton, or nothing that it could compile with."""
    try:
        from berttools.kernels import masks as mask_kernels
    except ImportError:
        return None
    if torch.cuda.is_available():
        try:
            mask_kernels.pack_bits(torch.ones(8, dtype=torch.bool, device="cuda"))
        except RuntimeError as error:  # a C compiler is missing, most likely
            why = str(error).partition("\n")[0]
            sys.stderr.write(f"berttools: warning: Triton cannot be used, and masks take longer without: {why}\n")
            return None
    return mask_kernels


def is_fused(device: torch.device) -> bool:
    """Test whether products on a device unpack masks by themselves."""
    return device.type in FUSED


def kernels_for(matrix: Tensor) -> Any:
    """Give ``berttools.kernels.masks`` where they take a matrix: on a GPU; None elsewhere."""
    kernels = triton_kernels() if is_fused(matrix.device) else None
    return None if kernels is None or matrix.numel() > kernels.MOST_ENTRIES else kernels
