"""What another format does not hold of a photo is noted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from conftest import faceless, saved
from facetools.photos.codec import decode_photo, encode_photo
from facetools.photos.writing import losses_as

PHOTO = faceless((40, 32))


def losses_of(data: bytes, kind: str) -> list[str]:
    photo = decode_photo(data, "x")
    return [note for note in losses_as(photo, kind) if not note.startswith(f"{kind} files do not tell")]


def clear() -> Image.Image:
    image = PHOTO.copy()
    image.putalpha(100)
    return image


def test_transparency_resolution_and_place() -> None:
    png = saved(clear(), "PNG", dpi=(240, 240))
    assert losses_of(png, "JPEG") == ["transparency removed"]
    assert losses_of(png, "WEBP") == ["resolution removed"]
    assert losses_of(png, "PNG") == []
    photo = decode_photo(png, "a.png")
    kept = Image.open(io.BytesIO(encode_photo(photo, photo.pixels, file_format="JPEG"))).info["dpi"]
    assert kept == pytest.approx((240, 240), abs=0.5)
    tags = Image.Exif()
    tags.get_ifd(0x8825)[1] = "N"
    assert losses_as(decode_photo(saved(PHOTO, "JPEG", exif=tags), "x"), "JPEG", strip_gps=True) == ["GPS removed"]


def test_a_guessed_quality_is_told() -> None:
    photo = decode_photo(saved(PHOTO, "PNG"), "x")
    assert losses_as(photo, "WEBP") == ["WEBP files do not tell their quality: saved with 95"]
    assert losses_as(photo, "WEBP", quality=80) == []


def test_a_profile_of_grey_is_not_put_beside_rgb() -> None:
    """WebP has no grey: a profile with one curve beside three channels is refused by who reads it."""
    grey = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    grey[16:20] = b"GRAY"
    data = saved(PHOTO.convert("L"), "PNG", icc_profile=bytes(grey))
    photo = decode_photo(data, "x")
    assert losses_of(data, "WEBP") == ["colour profile removed"]
    assert losses_of(data, "JPEG") == []
    assert "icc_profile" not in Image.open(io.BytesIO(encode_photo(photo, photo.pixels, file_format="WEBP"))).info
    assert "icc_profile" in Image.open(io.BytesIO(encode_photo(photo, photo.pixels))).info


def test_gamma_and_primaries_stay_in_a_png_alone() -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    data = saved(PHOTO, "PNG", pnginfo=chunks)
    photo = decode_photo(data, "x")
    assert Image.open(io.BytesIO(encode_photo(photo, photo.pixels))).info["gamma"] == 1
    assert losses_of(data, "PNG") == []
    assert losses_of(data, "JPEG") == ["colour description removed"]
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")
    assert losses_of(saved(PHOTO, "PNG", pnginfo=chunks), "JPEG") == []


@pytest.mark.parametrize(("codes", "notes"), [((9, 16), ["colour description removed"]), ((1, 13), [])])
def test_colours_of_a_heic_without_a_profile(codes: tuple[int, int], notes: list[str]) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    primaries, transfer = codes
    data = saved(
        PHOTO, "HEIF", color_primaries=primaries, transfer_characteristics=transfer,
        matrix_coefficients=1, full_range_flag=1,
    )  # fmt: skip
    assert losses_of(data, "PNG") == notes
    assert losses_of(data, "HEIF") == []


def test_a_webp_is_lossless_by_its_chunk_and_not_by_a_word_in_it() -> None:
    lossy = decode_photo(saved(PHOTO, "WEBP", quality=80, xmp=b"<x>VP8L</x>"), "x")
    assert not lossy.is_lossless()
    frames = {"save_all": True, "append_images": [faceless((40, 32), seed=1)]}
    for lossless in (True, False):
        assert decode_photo(saved(PHOTO.copy(), "WEBP", lossless=lossless, **frames), "x").is_lossless() is lossless
    assert np.array_equal(decode_photo(saved(PHOTO, "WEBP", lossless=True), "x").pixels, np.asarray(PHOTO))
