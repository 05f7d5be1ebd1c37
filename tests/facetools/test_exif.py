"""No small copy of the clean photo stays in the EXIF of a cloaked one."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import faceless, saved
from facetools.exif import without_previews
from facetools.photos import decode_photo, encode_photo

THUMBNAIL = saved(faceless((32, 24), seed=3), "JPEG", quality=80)


def exif_with(thumbnail: bytes, order: str = "<", *, strips: bool = False) -> bytes:
    """An EXIF block: a make in IFD0, and in IFD1 a thumbnail, as JPEG or as strips of plain pixels."""
    make = b"Camera\0\0"
    first, second, data = 8, 8 + 2 + 12 + 4, 8 + 2 + 12 + 4 + 2 + 24 + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    one = struct.pack(order + "HHHI", 1, 0x010F, 2, len(make)) + struct.pack(order + "II", data, second)
    place, length = (0x0111, 0x0117) if strips else (0x0201, 0x0202)
    two = struct.pack(order + "H", 2)
    two += struct.pack(order + "HHII", place, 4, 1, data + len(make))
    two += struct.pack(order + "HHII", length, 4, 1, len(thumbnail)) + struct.pack(order + "I", 0)
    return b"Exif\0\0" + head + one + two + make + thumbnail


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [False, True])
def test_a_thumbnail_is_blanked_and_unlinked(order: str, strips: bool) -> None:
    picture = bytes(range(1, 200)) if strips else THUMBNAIL
    exif = exif_with(picture, order, strips=strips)
    bare = without_previews(exif)
    assert len(bare) == len(exif)
    assert picture not in bare
    assert bare.endswith(bytes(len(picture)))
    read = Image.Exif()
    read.load(bare)
    assert read[0x010F].rstrip("\0") == "Camera"
    assert not read.get_ifd(1)


def test_a_jpeg_in_a_makers_notes_is_blanked() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    plain = exif.tobytes()
    noted = plain + b"notes" + THUMBNAIL + b"more"
    bare = without_previews(noted)
    assert bare == plain + b"notes" + bytes(len(THUMBNAIL)) + b"more"
    assert without_previews(plain) == plain


@given(st.binary(max_size=300), st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damage_never_fails_and_never_keeps_a_jpeg(data: bytes, place: int, damage: bytes) -> None:
    block = bytearray(exif_with(THUMBNAIL))
    block[place : place + len(damage)] = damage
    for exif in (bytes(block), data):
        bare = without_previews(exif)
        assert len(bare) == len(exif)
        assert b"\xff\xd8\xff" not in bare


def test_a_written_photo_holds_no_preview_of_the_read_one() -> None:
    data = saved(faceless((64, 48)), "JPEG", exif=exif_with(THUMBNAIL))
    photo = decode_photo(data, "a.jpg")
    assert "previews in the EXIF removed" in photo.notes
    for kind in ("JPEG", "PNG", "WEBP"):
        written = encode_photo(photo, 255 - photo.pixels, file_format=kind)
        assert THUMBNAIL not in written
        assert Image.open(io.BytesIO(written)).getexif()[0x010F].rstrip("\0") == "Camera"
    assert np.array_equal(photo.pixels, decode_photo(data, "a.jpg").pixels)
