"""Walks over the parts of photo files; `test_losses` applies them to every container."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import faceless, saved
from facetools.photos.containers import (
    MOST_PICTURES,
    boxes,
    items_of,
    jpeg_segments,
    jpegs_behind,
    png_chunks,
    riff_chunks,
)

PHOTO = faceless((64, 48))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"quality": 100, "subsampling": 0}]
)
def test_the_end_of_a_jpeg_is_found(options: dict[str, object]) -> None:
    data = saved(PHOTO, "JPEG", comment=b"\xff\xd9", **options)
    segments, end = jpeg_segments(data + b"more\xff\xd9")
    assert end == len(data)
    assert [part.name for part in segments] == ["APP0", "COM"]
    assert segments[1].payload == b"\xff\xd9"


def test_jpegs_behind_each_other() -> None:
    first, second = saved(PHOTO, "JPEG"), saved(PHOTO, "JPEG", comment=b"two")
    others, rest = jpegs_behind(first + bytes(30) + second + second + b"end", len(first))
    assert [[part.payload for part in other if part.name == "COM"] for other in others] == [[b"two"]] * 2
    assert rest == b"end"


def test_chunks_of_png_and_webp() -> None:
    data = saved(PHOTO, "PNG", dpi=(96, 96))
    parts, end = png_chunks(data + b"more")
    assert ([part.name for part in parts], end) == (["IHDR", "pHYs", "IEND"], len(data))
    data = saved(PHOTO, "WEBP", exif=Image.Exif().tobytes() + b"odd", lossless=True)
    parts, end = riff_chunks(data + b"more")
    assert ([part.name for part in parts], end) == (["VP8X", "VP8L", "EXIF"], len(data))


def test_boxes_and_items_of_avif() -> None:
    data = saved(PHOTO, "AVIF", speed=10, exif=Image.Exif().tobytes(), xmp=b"<x/>")
    assert [box.name for box in boxes(data)] == ["ftyp", "meta", "mdat"]
    items = items_of(data)
    assert {"av01", "Exif", "mime"} == items.kinds
    assert items.mimes == {"application/rdf+xml"}
    assert {"ispe", "pixi", "colr"} <= items.properties
    assert items.codes == {(1, 13)}, "primaries of BT.709 and the curve of sRGB"


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF"]), st.data())
def test_damaged_files_end_a_walk_and_raise_nothing(kind: str, draw: st.DataObject) -> None:
    data = bytearray(FILES[kind])
    for _ in range(3):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for walk in (jpeg_segments, png_chunks, riff_chunks, items_of, lambda each: list(boxes(each))):
        walk(bytes(data[: draw.draw(st.integers(0, len(data)))]))


class Counted(bytes):
    """Bytes that count how many of them are copied out, and where they are looked at one by one."""

    copied, looks = 0, 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counted.copied += len(found) if isinstance(key, slice) else 0
        Counted.looks += 1
        return Counted(found) if isinstance(key, slice) else found

    def lstrip(self, *args: Any) -> bytes:
        found = super().lstrip(*args)
        Counted.copied += len(found)
        return Counted(found)


def box(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + name + payload


def nested(levels: int) -> bytes:
    found = b""
    for _ in range(levels):
        found = box(b"meta", bytes(4) + found)
    return found


HOSTILE: dict[str, tuple[Callable[[bytes], object], Callable[[int], bytes]]] = {
    "JPEGs": (lambda data: jpegs_behind(data, 0), lambda count: b"\xff\xd8\xff\xd9" * count),
    "JPEGs without an end": (lambda data: jpegs_behind(data, 0), lambda count: b"\xff\xd8\xff\xd8" * count),
    "JPEGs of padding": (lambda data: jpegs_behind(data, 0), lambda count: (b"\xff\xd8\xff\xd9" + bytes(9)) * count),
    "segments": (jpeg_segments, lambda count: b"\xff\xd8" + b"\xff\xe0\0\2" * count),
    "segments of size 0": (jpeg_segments, lambda count: b"\xff\xd8" + b"\xff\xe0\0\0" * count),
    "segments too long": (jpeg_segments, lambda count: b"\xff\xd8" + b"\xff\xe0\xff\xff" * count),
    "no segments": (jpeg_segments, lambda count: b"\xff\xd8" + bytes(4 * count)),
    "scans": (jpeg_segments, lambda count: b"\xff\xd8" + b"\xff\xda\0\2" * count),
    "PNG chunks": (png_chunks, lambda count: bytes(8) + (bytes(4) + b"tEXt" + bytes(4)) * count),
    "PNG chunks too long": (png_chunks, lambda count: bytes(8) + (b"\xff" * 4 + b"tEXt" + bytes(4)) * count),
    "RIFF chunks": (riff_chunks, lambda count: b"RIFF\xff\xff\xff\xffWEBP" + (b"EXIF" + bytes(4)) * count),
    "RIFF chunks too long": (riff_chunks, lambda count: b"RIFF\xff\xff\xff\xffWEBP" + (b"EXIF" + b"\xff" * 4) * count),
    "boxes": (items_of, lambda count: box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"auxC", b"") * count)))),
    "boxes of size 0": (items_of, lambda count: box(b"meta", bytes(4) + (bytes(4) + b"iref") * count)),
    "boxes of size 1": (items_of, lambda count: (b"\0\0\0\1meta" + bytes(7) + b"\x10") * count),
    "boxes that are too long": (items_of, lambda count: box(b"meta", bytes(4) + (b"\xff" * 4 + b"iinf") * count)),
    "boxes in boxes": (items_of, nested),
    "many lists": (items_of, lambda count: box(b"meta", bytes(4) + box(b"iinf", bytes(6) + box(b"infe", b"")))
                   * count),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_do_harm_is_walked_once(name: str) -> None:
    walk, make = HOSTILE[name]
    data = Counted(make(1500))
    Counted.copied = Counted.looks = 0
    walk(data)
    assert Counted.copied <= 4 * len(data)
    assert Counted.looks <= 4 * len(data)


def test_pictures_behind_the_first_are_read_up_to_a_number() -> None:
    tiny = b"\xff\xd8\xff\xd9"
    others, rest = jpegs_behind(tiny * (MOST_PICTURES + 3), 4)
    assert (len(others), rest) == (MOST_PICTURES, tiny * 2)


FILES = {kind: saved(PHOTO, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF")}
