"""File formats that photos are saved in, as the command line names them."""

from __future__ import annotations

from enum import StrEnum

from _toolio.streams.inputs import Kind


class Format(StrEnum):
    """File format of a saved photo; ``keep`` is the photo's own."""

    keep = "keep"
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    heif = "heif"


ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs", ".ico", ".psd"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".qoi"),
    )
)
"""Endings of the names of photos, in lower case: what else lies in a folder of photos is left out."""


def photo_files() -> Kind:
    """Return what tells photos from other files by their names, and counts those."""
    return Kind("photo", ENDINGS)
