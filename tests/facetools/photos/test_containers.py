"""Walks over the parts of photo files; `test_losses` applies them to every container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import faceless, saved
from facetools.photos.containers import boxes, items_of, jpeg_segments, jpegs_behind, png_chunks, riff_chunks

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


FILES = {kind: saved(PHOTO, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF")}
