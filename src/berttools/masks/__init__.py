"""Mask files: bits coded, written, read, compared, and laid over their base."""

from enum import StrEnum


class Code(StrEnum):
    """How a mask's bits are coded (`berttools.masks.coding`); ``auto`` is the smallest of the others.

    It is here because options name it: importing it needs no numpy.
    """

    auto = "auto"
    bits = "bits"
    entropy = "entropy"
    conditional = "conditional"
