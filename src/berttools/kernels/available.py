"""Choose Triton kernels where they can be used."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)

FUSED = frozenset({"cuda"})
"""Types of devices whose products unpack masks by themselves, in ``berttools.kernels.masks``."""


@cache
def triton_kernels() -> Any:
    """Return ``berttools.kernels.masks``; None where there is no Triton, or no C compiler for it, which is logged."""
    try:
        from berttools.kernels import masks as mask_kernels
    except ImportError:
        return None
    if torch.cuda.is_available():
        try:
            mask_kernels.pack_bits(torch.ones(8, dtype=torch.bool, device="cuda"))
        except RuntimeError as error:  # a C compiler is missing, most likely
            why = str(error).partition("\n")[0]
            _LOG.warning("berttools: warning: Triton cannot be used, and masks take longer without: %s", why)
            return None
    return mask_kernels


def is_fused(device: torch.device) -> bool:
    """Test whether products on a device unpack masks by themselves."""
    return device.type in FUSED


def kernels_for(matrix: Tensor) -> Any:
    """Return ``berttools.kernels.masks`` for a matrix on a GPU that is not too large for them; else None."""
    kernels = triton_kernels() if is_fused(matrix.device) else None
    return None if kernels is None or matrix.numel() > kernels.MOST_ENTRIES else kernels
