"""Mask files: bits coded, written, read, compared, and laid over their base."""

from enum import StrEnum
from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.masks.apply import apply_mask
    from berttools.masks.file import Mask, open_mask
    from berttools.masks.writer import write_mask

__all__ = ["Code", "Mask", "apply_mask", "open_mask", "write_mask"]

__getattr__ = exporter(
    __name__,
    {
        "apply_mask": "apply",
        "Mask": "file",
        "open_mask": "file",
        "write_mask": "writer",
    },
)


class Code(StrEnum):
    """How a mask's bits are coded (`berttools.masks.coding`); ``auto`` is the smallest of the others.

    It is here because options name it: importing it needs no numpy.
    """

    auto = "auto"
    bits = "bits"
    entropy = "entropy"
    conditional = "conditional"
