"""Walk the parts of photo files: JPEG segments, PNG and RIFF chunks, ISO boxes; nothing is decoded.

Damaged files end a walk early: what Pillow decodes all the same has then been read as far as it can be. A walk copies
each byte at most once, whatever a file says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Part(NamedTuple):
    """A segment, chunk or box: its name and the bytes in it."""

    name: str
    payload: bytes


MOST_PICTURES = 64
"""JPEGs behind the first one that are looked at; phones append two or three."""

JPEG_START = b"\xff\xd8\xff"
_END_MARKER, _SCAN = 0xD9, 0xDA
_PADDING = re.compile(rb"\0*")
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
# In a scan 0xFF is followed by 0, a restart marker, or another 0xFF.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def jpeg_segments(data: bytes, start: int = 0) -> tuple[list[Part], int]:
    """Return the segments of the JPEG at a place of a file, and where it ends; the name of an APP1 is ``APP1``.

    Only ``APP0`` to ``APP15`` and ``COM`` are listed.
    """
    parts, place = list[Part](), start + 2
    while place + 2 <= len(data):
        if data[place] != 0xFF:
            found = data.find(b"\xff", place)
            place = found if found >= 0 else len(data)
            continue
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        place += 2
        if marker == _END_MARKER:
            return parts, place
        if marker in _BARE_MARKERS:
            continue
        size = int.from_bytes(data[place : place + 2], "big")
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            name = "COM" if marker == 0xFE else f"APP{marker - 0xE0}"
            parts.append(Part(name, data[place + 2 : place + size]))
        place += max(size, 2)
        if marker == _SCAN:
            behind = _AFTER_SCAN.search(data, place)
            place = behind.start() if behind else len(data)
    return parts, len(data)


def jpegs_behind(data: bytes, end: int) -> tuple[list[list[Part]], bytes]:
    """Return the segments of each JPEG that follows the first one, which ends at ``end``, and what follows them.

    After ``MOST_PICTURES`` of them the rest is what follows.
    """
    found = list[list[Part]]()
    while True:
        padding = _PADDING.match(data, end)
        end = padding.end() if padding else end
        if len(found) == MOST_PICTURES or not data.startswith(JPEG_START, end):
            return found, data[end:]
        segments, end = jpeg_segments(data, end)
        found.append(segments)


def png_chunks(data: bytes) -> tuple[list[Part], int]:
    """Return the chunks of a PNG other than ``IDAT`` and ``fdAT``, and where the file ends."""
    parts, place = list[Part](), 8
    while place + 12 <= len(data):
        size, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8].decode("latin-1")
        if name not in ("IDAT", "fdAT"):
            parts.append(Part(name, data[place + 8 : place + 8 + size]))
        place += size + 12
        if name == "IEND":
            return parts, place
    return parts, len(data)


def riff_chunks(data: bytes) -> tuple[list[Part], int]:
    """Return the chunks of a RIFF file (WebP), each with its first bytes, and where the file ends."""
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    parts, place = list[Part](), 12
    while place + 8 <= end:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        parts.append(Part(data[place : place + 4].decode("latin-1"), data[place + 8 : place + 8 + min(size, 64)]))
        place += 8 + size + size % 2
    return parts, end + end % 2


class Box(NamedTuple):
    """An ISO box: its type, and where its contents begin and end."""

    name: str
    start: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes (ISO 14496-12, JPEG 2000 part 1) between two places; the last may be cut short."""
    end = len(data) if end is None else min(end, len(data))
    while start + 8 <= end:
        size, name, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < head:
            return
        yield Box(name.decode("latin-1"), start + head, min(start + size, end))
        start += size


@dataclass(slots=True)
class Items:
    """What the ``meta`` box of a HEIF or AVIF file lists.

    Attributes
    ----------
    kinds
        Types of the items: ``hvc1``, ``Exif``, ``mime``, ``tmap``.
    mimes
        Content types of ``mime`` items.
    auxiliary
        What auxiliary pictures are, as URNs.
    references, properties
        Types of references (``thmb``) and of properties (``clli``).
    codes
        Colour primaries and transfer characteristics (ITU-T H.273) of each ``nclx``.
    """

    kinds: set[str] = field(default_factory=set)
    mimes: set[str] = field(default_factory=set)
    auxiliary: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    properties: set[str] = field(default_factory=set)
    codes: set[tuple[int, int]] = field(default_factory=set)


def items_of(data: bytes) -> Items:
    """Read the ``meta`` box of a HEIF or AVIF file."""
    items = Items()
    for meta in boxes(data):
        if meta.name != "meta":
            continue
        for box in boxes(data, meta.start + 4, meta.end):
            if box.name == "iinf":
                # Version 0 counts in 16 bits.
                for entry in boxes(data, box.start + (6 if data[box.start : box.start + 1] == b"\0" else 8), box.end):
                    _add_item(items, data[entry.start : entry.end])
            elif box.name == "iref":
                items.references |= {each.name for each in boxes(data, box.start + 4, box.end)}
            elif box.name == "iprp":
                for each in boxes(data, box.start, box.end):
                    for prop in boxes(data, each.start, each.end) if each.name == "ipco" else ():
                        _add_property(items, prop.name, data[prop.start : prop.end])
    return items


def _add_item(items: Items, entry: bytes) -> None:
    """Add an ``infe`` box: version, flags, number (16 bits up to version 2), protection, type, name, content type."""
    place = 4 + (4 if entry[:1] == b"\3" else 2) + 2
    kind, texts = entry[place : place + 4].decode("latin-1"), entry[place + 4 :].split(b"\0", 2)
    items.kinds.add(kind)
    if kind == "mime" and len(texts) > 1:
        items.mimes.add(texts[1].decode("latin-1"))


def _add_property(items: Items, name: str, payload: bytes) -> None:
    items.properties.add(name)
    if name == "auxC":
        items.auxiliary.add(payload[4:].partition(b"\0")[0].decode("latin-1"))
    if name == "colr" and payload[:4] == b"nclx":
        items.codes.add((int.from_bytes(payload[4:6], "big"), int.from_bytes(payload[6:8], "big")))
