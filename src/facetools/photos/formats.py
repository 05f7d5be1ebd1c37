"""Formats that photos are written in."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """How a cloaked photo is saved."""

    keep = "keep"
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    heif = "heif"
