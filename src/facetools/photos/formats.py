"""File formats that photos are saved in, as the command line names them."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """File format of a saved photo; ``keep`` is the photo's own."""

    keep = "keep"
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    heif = "heif"
