"""No small copy of the clean photo stays in the EXIF of a cloaked one."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import faceless, saved
from facetools.photos.codec import decode_photo, encode_photo
from facetools.photos.exif import without_gps, without_previews

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


def test_a_preview_that_has_a_preview_is_blanked_whole() -> None:
    """Cameras keep large previews in their notes, which have an EXIF and a thumbnail of their own."""
    preview = io.BytesIO()
    faceless((96, 96), seed=4).save(preview, "JPEG", exif=exif_with(THUMBNAIL))
    plain = Image.Exif()
    plain[0x010F] = "Camera"
    noted = plain.tobytes() + b"notes" + preview.getvalue() + b"more" + THUMBNAIL + b"end"
    bare = without_previews(noted)
    size = len(preview.getvalue())
    assert bare == plain.tobytes() + b"notes" + bytes(size) + b"more" + bytes(len(THUMBNAIL)) + b"end"
    # One that is cut short goes to the end.
    cut = plain.tobytes() + preview.getvalue()[:-2]
    assert without_previews(cut) == plain.tobytes() + bytes(size - 2)


def test_a_directory_that_is_cut_short_leaves_nothing_of_the_place() -> None:
    head = b"Exif\0\0II*\0" + struct.pack("<I", 8)
    for kept in range(20):
        gps = struct.pack("<HHHII", 1, 0x8825, 4, 1, 26) + struct.pack("<I", 0) + struct.pack("<H", 0)
        assert len(without_gps(head + gps[:kept])) in (0, len(head) + kept)


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


PLACE = {1: "N", 2: (48.0, 12.0, 33.5), 3: "E", 4: (16.0, 22.0, 11.25), 29: "2021:05:04"}


def exif_with_place(order: str, *, orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x9999] = "a camera", orientation, "behind the place"
    exif.get_ifd(0x8769)[0x9003] = "2021:05:04 12:00:00"
    exif.get_ifd(0x8825).update(PLACE)
    return exif.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_place_goes_and_all_else_stays(order: str) -> None:
    exif = exif_with_place(order)
    before, after = Image.Exif(), Image.Exif()
    before.load(exif)
    assert before.get_ifd(0x8825)[2] == PLACE[2]
    bare = without_gps(exif)
    assert len(bare) == len(exif)
    after.load(bare)
    assert 0x8825 not in after
    assert dict(after) == {tag: value for tag, value in before.items() if tag != 0x8825}
    assert after.get_ifd(0x8769) == before.get_ifd(0x8769)
    for value in (b"2021:05:04\0", struct.pack(order + "II", 67, 2), struct.pack(order + "II", 45, 4)):
        assert (value in exif, value in bare) == (True, False), "the values are gone, not only the way to them"
    assert without_gps(bare) == bare
    assert without_gps(exif[6:]) == bare[6:], "with and without the header"


def test_without_a_place_nothing_changes() -> None:
    exif = exif_with(THUMBNAIL)
    assert without_gps(exif) == exif
    assert without_gps(b"") == b""


@pytest.mark.parametrize("junk", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"MM"])
def test_what_cannot_be_searched_is_dropped_whole(junk: bytes) -> None:
    assert without_gps(junk) == b""


@given(st.integers(0, 300), st.binary(min_size=1, max_size=8))
def test_damage_never_fails_and_never_keeps_a_place_that_can_be_read(place: int, damage: bytes) -> None:
    block = bytearray(exif_with_place(">"))
    block[place : place + len(damage)] = damage
    bare = without_gps(bytes(block))
    if bare:
        assert len(bare) == len(block)
        read = Image.Exif()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read.load(bare)
        except Exception:
            return  # too damaged to be read by Pillow
        assert 0x8825 not in read


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_a_photo_is_written_with_or_without_its_place(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    photo = decode_photo(saved(faceless(), kind, exif=exif_with_place("<")), "a")
    assert photo.has_gps
    assert photo.format == kind
    for strip in (False, True):
        data = encode_photo(photo, photo.pixels, strip_gps=strip)
        again = decode_photo(data, "b")
        assert again.has_gps is not strip
        exif = Image.open(io.BytesIO(data)).getexif()
        assert (exif[0x010F], exif.get_ifd(0x8769)[0x9003]) == ("a camera", "2021:05:04 12:00:00")
        assert exif.get_ifd(0x8825).get(2) == (None if strip else PLACE[2])
        assert again.pixels.shape == photo.pixels.shape, "the orientation holds"
        assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 3


def test_a_photo_without_a_place_has_none_to_tell_of() -> None:
    assert not decode_photo(saved(faceless(), "PNG"), "a").has_gps
    assert not decode_photo(saved(faceless(), "JPEG", exif=exif_with(THUMBNAIL)), "a").has_gps
    hidden = saved(faceless(), "JPEG", exif=b"Exif\0\0garbage")
    photo = decode_photo(hidden, "a")
    assert photo.has_gps, "nobody knows"
    assert b"garbage" not in encode_photo(photo, photo.pixels, strip_gps=True)
    assert b"garbage" in encode_photo(photo, photo.pixels)


def directory(*entries: tuple[int, int, int, int], link: int = 0) -> bytes:
    """An IFD of entries: tag, type, count, value or place."""
    return (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *each) for each in entries)
        + bytes(struct.pack("<I", link))
    )


def test_more_directories_of_gps_tags_than_a_camera_writes_are_not_searched() -> None:
    head = b"II*\0\x08\0\0\0"
    places = directory((1, 2, 900, 8))
    several = directory(*[(0x8825, 4, 1, 8 + 6 + 12 * 3)] * 3)
    assert len(without_gps(head + several + places)) == len(head + several + places)
    many = directory(*[(0x8825, 4, 1, 8 + 6 + 12 * 500)] * 500)
    assert without_gps(head + many + places) == b""


def test_strips_of_a_preview_that_overlap_are_blanked() -> None:
    starts = struct.pack("<4I", 150, 120, 140, 4_000_000_000)
    counts = struct.pack("<4I", 20, 30, 1_000_000_000, 9)
    first = directory(link=14)
    second = directory((0x0111, 4, 4, 50), (0x0117, 4, 4, 70))
    data = (b"II*\0\x08\0\0\0" + first + second).ljust(50, b"x") + starts + b"xxxx" + counts
    data = data.ljust(200, b"x")
    found = without_previews(data)
    assert found[86:120] == b"x" * 34
    assert found[120:] == bytes(80)


def test_starts_of_jpegs_in_each_other_are_blanked() -> None:
    assert without_previews(b"\xff\xd8\xff" * 9999) == bytes(9999 * 3)
    assert without_previews(b"\xff\xd8\xff\xff\xd8\xff\xff\xd9a\xff\xd9b") == bytes(11) + b"b"
