"""Remove from EXIF data what must not accompany a cloaked photo: previews of the clean one, GPS tags."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from contextlib import suppress

_HEADER = b"Exif\0\0"
_ORDERS = {b"II": "<", b"MM": ">"}
_JPEG_START = b"\xff\xd8\xff"
_JPEG_MARKERS = re.compile(_JPEG_START + rb"|\xff\xd9")
# Tags of IFD1 that say where its picture lies, and how long it is: JPEG (513, 514) and strips (273, 279).
_PICTURES = ((0x0201, 0x0202), (0x0111, 0x0117))
_SIZES = {3: (2, "H"), 4: (4, "I")}
_DETAILS, _GPS = 0x8769, 0x8825
_MOST_GPS_TAGS = 256  # the standard knows 32
_MOST_DIRECTORIES = 4  # of GPS tags; the standard knows one
# Bytes that one value of each type takes, 1 (BYTE) to 13 (IFD).
_WIDTHS = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)


def without_previews(exif: bytes) -> bytes:
    """Blank every preview in EXIF data; every other byte stays where it is.

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
        end = _end_of_jpeg(data, found)
        data[found:end] = bytes(end - found)
        found = data.find(_JPEG_START, end)
    return bytes(data)


def _end_of_jpeg(data: bytearray, start: int) -> int:
    """Find where a JPEG ends that may hold others: a preview's own EXIF has a preview."""
    depth = 0
    for marker in _JPEG_MARKERS.finditer(data, start):
        depth += 1 if marker[0] == _JPEG_START else -1
        if depth == 0:
            return marker.end()
    return len(data)


def without_gps(exif: bytes) -> bytes:
    """Remove the directory of GPS tags from EXIF data; every other byte stays where it is.

    Its values are blanked too, so that no tool finds them again. A location in a maker's notes or a caption is not
    recognised, and stays.

    Parameters
    ----------
    exif
        The bytes of an EXIF block, with or without its ``Exif`` header.

    Returns
    -------
    bytes
        As long as ``exif``; equal to it if there was no such directory. Empty for damaged data that cannot be
        searched: what it holds is not known.
    """
    if not exif:
        return b""
    start = len(_HEADER) if exif.startswith(_HEADER) else 0
    data = bytearray(exif)
    tiff = memoryview(data)[start:]
    try:
        order = _ORDERS[bytes(tiff[:2])]
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        details = _values(tiff, first, order, (_DETAILS,)).get(_DETAILS, ())
        for directory in (*details[:1], first):
            _remove_directories(tiff, directory, order, _GPS)
    except (struct.error, KeyError, ValueError):
        return b""
    return bytes(data)


def _remove_directories(tiff: memoryview, parent: int, order: str, pointer: int) -> None:
    """Blank the directories that a tag of another one points to, and remove the tag; later tags move up."""
    (entries,) = struct.unpack_from(order + "H", tiff, parent)
    number = removed = 0
    while number < entries:
        offset = parent + 2 + 12 * number
        (tag,) = struct.unpack_from(order + "H", tiff, offset)
        if tag != pointer:
            number += 1
            continue
        removed += 1
        if removed > _MOST_DIRECTORIES:
            raise struct.error("no EXIF data: more directories of GPS tags than any camera writes")
        (child,) = struct.unpack_from(order + "I", tiff, offset + 8)
        _blank_directory(tiff, child, order)
        end = parent + 2 + 12 * entries + 4  # behind the link to the next directory
        tiff[offset : end - 12] = bytes(tiff[offset + 12 : end])
        tiff[end - 12 : end] = bytes(12)
        entries -= 1
        struct.pack_into(order + "H", tiff, parent, entries)


def _blank_directory(tiff: memoryview, directory: int, order: str) -> None:
    """Overwrite a directory with zeros, and the values that lie elsewhere."""
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    if entries > _MOST_GPS_TAGS:
        raise struct.error("no directory of GPS tags")
    for offset in range(directory + 2, directory + 2 + 12 * entries, 12):
        _, kind, count, value = struct.unpack_from(order + "HHII", tiff, offset)
        size = _WIDTHS[kind] * count if kind < len(_WIDTHS) else 0
        if size > 4 and value < len(tiff):
            end = min(value + size, len(tiff))
            tiff[value:end] = bytes(end - value)
    end = min(directory + 2 + 12 * entries + 4, len(tiff))
    tiff[directory:end] = bytes(end - directory)


def _unlink_thumbnail(tiff: memoryview) -> None:
    """Blank the picture of IFD1 and cut the link from IFD0 to it."""
    order = _ORDERS.get(bytes(tiff[:2]))
    if order is None:
        return
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, first)
    link = first + 2 + 12 * entries
    (second,) = struct.unpack_from(order + "I", tiff, link)
    if not second:
        return
    struct.pack_into(order + "I", tiff, link, 0)
    values = _values(tiff, second, order, sum(_PICTURES, ()))
    pieces = [
        (begin, begin + count)
        for where, length in _PICTURES
        for begin, count in zip(values.get(where, ()), values.get(length, ()), strict=False)
    ]
    reached = 0  # pieces may overlap, and each byte is blanked once
    for begin, end in sorted(pieces):
        begin, end = max(begin, reached), min(end, len(tiff))
        if begin < end:
            tiff[begin:end] = bytes(end - begin)
            reached = end


def _values(tiff: memoryview, directory: int, order: str, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Read the whole numbers of some tags of a directory: tag to values. Of equal tags the last one counts."""
    found = {}
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for number in range(entries):
        offset = directory + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, offset)
        if tag not in wanted or kind not in _SIZES or count > len(tiff):
            continue
        size, letter = _SIZES[kind]
        where = offset + 8 if size * count <= 4 else struct.unpack_from(order + "I", tiff, offset + 8)[0]
        found[tag] = (f"{order}{count}{letter}", where)
    return {tag: struct.unpack_from(form, tiff, where) for tag, (form, where) in found.items()}
