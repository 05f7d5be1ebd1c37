"""Taking the small copies of a photo out of its EXIF: a cloaked photo must not carry the clean face along."""

from __future__ import annotations

import struct
from contextlib import suppress

_HEADER = b"Exif\0\0"
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# Tags of IFD1 that say where its picture lies, and how long it is: JPEG (513, 514) and strips (273, 279).
_PLACES = ((0x0201, 0x0202), (0x0111, 0x0117))
_SIZES = {3: (2, "H"), 4: (4, "I")}


def without_previews(exif: bytes) -> bytes:
    """Blank every preview in EXIF data, and leave all else, byte for byte, where it is.

    That is the thumbnail of IFD1, which is also unlinked, and any JPEG elsewhere, such as in a maker's notes.

    Parameters
    ----------
    exif
        The bytes of an EXIF block, with or without its ``Exif`` header.

    Returns
    -------
    bytes
        As long as ``exif``; equal to it if there was no preview.
    """
    start = len(_HEADER) if exif.startswith(_HEADER) else 0
    data = bytearray(exif)
    with suppress(struct.error, IndexError):  # damaged: a JPEG in it is found all the same
        _unlink_thumbnail(memoryview(data)[start:])
    found = data.find(_JPEG_START)
    while found >= 0:
        end = data.find(_JPEG_END, found)
        end = len(data) if end < 0 else end + len(_JPEG_END)
        data[found:end] = bytes(end - found)
        found = data.find(_JPEG_START)
    return bytes(data)


def _unlink_thumbnail(tiff: memoryview) -> None:
    """Blank the picture of IFD1 and cut the link from IFD0 to it."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, first)
    link = first + 2 + 12 * entries
    (second,) = struct.unpack_from(order + "I", tiff, link)
    if not second:
        return
    struct.pack_into(order + "I", tiff, link, 0)
    values = _values(tiff, second, order)
    for place, length in _PLACES:
        for begin, count in zip(values.get(place, ()), values.get(length, ()), strict=False):
            count = max(0, min(count, len(tiff) - begin))
            tiff[begin : begin + count] = bytes(count)


def _values(tiff: memoryview, directory: int, order: str) -> dict[int, tuple[int, ...]]:
    """Read the whole numbers of a directory: tag to values."""
    found = {}
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for number in range(entries):
        place = directory + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, place)
        if kind not in _SIZES or count > len(tiff):
            continue
        size, letter = _SIZES[kind]
        where = place + 8 if size * count <= 4 else struct.unpack_from(order + "I", tiff, place + 8)[0]
        found[tag] = struct.unpack_from(f"{order}{count}{letter}", tiff, where)
    return found
