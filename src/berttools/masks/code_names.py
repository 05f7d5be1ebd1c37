"""Names of the ways in which a mask's bits are coded, without the codes."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """How masks are written; ``auto`` is the smallest of the others."""

    auto = "auto"
    bits = "bits"
    entropy = "entropy"
    conditional = "conditional"
