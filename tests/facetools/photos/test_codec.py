"""Photos in and out, good, odd and bad."""

from __future__ import annotations

import io
import random
import re
import struct
import sys
import tarfile
import zlib
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from _toolio.errors import InputError
from conftest import faceless, saved
from facetools.commands._perturb import Quality
from facetools.photos import codec as photos
from facetools.photos.codec import decode_photo, encode_photo, fitting_name
from facetools.photos.writing import GUESSED_QUALITY, NEW_JPEG_QUALITY

ORIENTATIONS = range(1, 9)


def noise(height: int = 12, width: int = 17, channels: int = 3, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    return exif.tobytes()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def refused(data: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        decode_photo(data, "some.jpg")
    assert caught.value.message.startswith("some.jpg: ")
    assert "\n" not in caught.value.message
    return caught.value


# ---------------------------------------------------------------- bad photos


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_truncated(kind: str) -> None:
    data = saved(Image.fromarray(noise(64, 64)), kind)
    assert refused(data[: len(data) // 2]).kind == "truncated"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty-file"),
        (b"Dear diary,\n", "not-a-photo"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not-a-photo"),
        (b"\xff\xd8\xff", "not-a-photo"),
        (b"\x89PNG\r\n\x1a\n", "not-a-photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not-a-photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-a-photo"),
        (bytes(1000), "not-a-photo"),
    ],
)
def test_no_photo(data: bytes, kind: str) -> None:
    assert refused(data).kind == kind


def test_decompression_bombs_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    png = saved(Image.new("L", (3000, 3000)), "PNG")
    monkeypatch.setattr(photos, "MAX_PIXELS", 8_000_000)
    assert refused(png).message == "some.jpg: more than 8 megapixels; scale it down"
    assert refused(png).kind == "too-large"
    monkeypatch.setattr(photos, "MAX_PIXELS", 9_000_000)
    assert decode_photo(png, "x").pixels.shape == (3000, 3000, 3)


def test_a_claimed_size_is_not_believed() -> None:
    header = b"P5\n60000 60000\n255\n"
    assert refused(header + bytes(100)).kind == "too-large"
    # Between Pillow's own limit and ours: refused for what is missing, not for its size.
    assert refused(b"P5\n19000 19000\n255\n" + bytes(100)).kind == "truncated"


@pytest.mark.parametrize(
    "junk", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_costs_no_photo(kind: str, junk: bytes) -> None:
    plain = saved(faceless(), kind)
    photo = decode_photo(saved(faceless(), kind, exif=junk), "x")
    assert photo.orientation == 1
    np.testing.assert_array_equal(photo.pixels, decode_photo(plain, "x").pixels)
    assert decode_photo(encode_photo(photo, photo.pixels), "y").pixels.shape == photo.pixels.shape


# ---------------------------------------------------------------- odd photos


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
@pytest.mark.parametrize("size", [(1, 1), (20_000, 2), (2, 20_000)])
def test_sizes(kind: str, size: tuple[int, int]) -> None:
    if kind == "WEBP" and max(size) > 16383:
        pytest.skip("WebP holds no such photo")
    photo = decode_photo(saved(Image.new("RGB", size, (10, 200, 30)), kind), "x")
    assert photo.pixels.shape == (size[1], size[0], 3)
    again = decode_photo(encode_photo(photo, photo.pixels), "x")
    np.testing.assert_allclose(again.pixels.astype(int), photo.pixels, atol=6)
    np.testing.assert_allclose(photo.pixels[0, 0].astype(int), (10, 200, 30), atol=6)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_come_back_bit_for_bit(kind: str) -> None:
    pixels = noise()
    photo = decode_photo(saved(Image.fromarray(pixels), kind), "x")
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert (photo.format, photo.grey, photo.alpha, photo.notes) == (kind, False, None, ())
    again = opened(encode_photo(photo, photo.pixels))
    assert again.format == kind
    np.testing.assert_array_equal(np.asarray(again), pixels)


@pytest.mark.parametrize("orientation", [1, 2, 5, 6, 8])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "HEIF"])
def test_outside_of_what_was_changed_lossless_formats_are_bit_identical(kind: str, mode: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    lossless: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True, "exact": True},
        "HEIF": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
    }
    options = lossless.get(kind, {})
    if kind in ("BMP", "PPM"):
        mode = mode.removesuffix("A")
    else:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        # Beside an ICC profile a HEIC does not tell that it is lossless.
        options |= {"exif": exif_of(orientation)} | ({"icc_profile": profile} if kind != "HEIF" else {})
    data = saved(Image.fromarray(noise(channels=4)).convert(mode), kind, **options)
    photo = decode_photo(data, "x")
    assert photo.is_lossless()
    changed = photo.pixels.copy()
    changed[2:6, 3:9] = np.clip(changed[2:6, 3:9].astype(int) + 40, 0, 255)
    written = encode_photo(photo, changed)
    again = decode_photo(written, "y")
    np.testing.assert_array_equal(again.pixels, changed)
    np.testing.assert_array_equal(again.alpha, photo.alpha)
    assert (again.format, again.notes) == (kind, ())
    if kind not in ("BMP", "PPM"):
        after = opened(written)
        assert after.info.get("icc_profile") == options.get("icc_profile")
        assert after.getexif()[0x010F] == "a camera"
    as_png = decode_photo(encode_photo(photo, changed, file_format="PNG"), "z")
    np.testing.assert_array_equal(as_png.pixels, changed)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_webp_stays_lossless_unless_a_quality_is_asked_for(mode: str) -> None:
    image = Image.fromarray(noise(channels=len(mode)))
    photo = decode_photo(saved(image, "WEBP", lossless=True, exact=True), "x")
    np.testing.assert_array_equal(np.asarray(opened(encode_photo(photo, photo.pixels))), np.asarray(image))
    lossy = decode_photo(encode_photo(photo, photo.pixels, quality=50), "x")
    assert not np.array_equal(lossy.pixels, photo.pixels)
    assert "lossless" not in lossy.save_options


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIF"])
def test_a_quality_that_no_file_tells_is_the_documented_one(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    photo = decode_photo(saved(faceless(), "BMP"), "x")
    quality = {**GUESSED_QUALITY, "JPEG": NEW_JPEG_QUALITY}[kind]
    assert encode_photo(photo, photo.pixels, file_format=kind) == encode_photo(
        photo, photo.pixels, file_format=kind, quality=quality
    )


def test_help_and_docstring_say_the_same_quality() -> None:
    (option,) = (each for each in get_args(Quality) if hasattr(each, "help"))
    assert option.help.endswith(f"get {GUESSED_QUALITY['WEBP']} (WebP) or {GUESSED_QUALITY['HEIF']} (HEIF).")
    assert not re.search(r"WebP and HEIF (get )?\d", encode_photo.__doc__ or ""), "the constant is named, not its value"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "JPEG"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey(kind: str, mode: str) -> None:
    image = Image.fromarray(noise(channels=1)).convert(mode)
    if kind == "JPEG":
        image = faceless().convert("L")
    photo = decode_photo(saved(image, kind), "x")
    assert photo.grey
    assert (photo.pixels == photo.pixels[:, :, :1]).all()
    again = opened(encode_photo(photo, photo.pixels))
    assert again.mode == "L"
    if kind != "JPEG":
        np.testing.assert_array_equal(np.asarray(again), np.asarray(image.convert("L")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept(kind: str, mode: str) -> None:
    values = noise(channels=4)
    image = Image.fromarray(values).convert(mode)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = decode_photo(saved(image, kind, **options), "x")
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha, values[:, :, 3])
    changed = np.clip(photo.pixels.astype(int) + 3, 0, 255).astype(np.uint8)
    again = decode_photo(encode_photo(photo, changed), "x")
    np.testing.assert_array_equal(again.pixels, changed)
    np.testing.assert_array_equal(again.alpha, photo.alpha)


def test_alpha_is_left_out_of_formats_without_it() -> None:
    photo = decode_photo(saved(Image.fromarray(noise(channels=4)), "PNG"), "x")
    for kind in ("JPEG", "BMP", "PPM"):
        assert opened(encode_photo(photo, photo.pixels, file_format=kind)).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_become_colours(kind: str) -> None:
    image = Image.fromarray(noise()).quantize(16)
    colours = np.asarray(image.convert("RGB"))
    photo = decode_photo(saved(image, kind), "x")
    np.testing.assert_array_equal(photo.pixels, colours)
    assert photo.alpha is None
    assert photo.notes[0] == "palette read as RGB"
    clear = decode_photo(saved(image, kind, transparency=3), "x")
    assert clear.alpha is not None
    np.testing.assert_array_equal(clear.alpha == 0, np.asarray(image) == 3)
    again = opened(encode_photo(clear, clear.pixels))
    assert (again.format, again.mode) == ("PNG", "RGBA")


@pytest.mark.parametrize(("mode", "clear"), [("RGB", (0, 0, 0)), ("L", 0), ("1", 0)])
def test_one_transparent_colour_becomes_alpha(mode: str, clear: Any) -> None:
    image = Image.fromarray(noise(channels=1) // 128 * 255).convert(mode)
    photo = decode_photo(saved(image, "PNG", transparency=clear), "x")
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha == 0, np.asarray(image.convert("L")) == 0)
    assert photo.grey == (mode != "RGB")
    again = decode_photo(encode_photo(photo, photo.pixels), "x")
    np.testing.assert_array_equal(again.alpha, photo.alpha)
    np.testing.assert_array_equal(again.pixels, photo.pixels)


def test_cmyk() -> None:
    image = faceless().convert("CMYK")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = decode_photo(saved(image, "JPEG", quality=95, icc_profile=profile), "x")
    assert (photo.format, photo.notes) == ("JPEG", ("CMYK read as RGB, without its colour profile",))
    difference = np.abs(photo.pixels.astype(int) - np.asarray(image.convert("RGB")))
    assert difference.mean() < 2
    again = opened(encode_photo(photo, photo.pixels))
    assert (again.mode, again.format) == ("RGB", "JPEG")
    assert "icc_profile" not in again.info


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("dark", [False, True])
def test_16_bit_grey_is_scaled_not_clipped(kind: str, dark: bool) -> None:
    wide = (np.arange(12 * 17).reshape(12, 17) * (1 if dark else 320)).astype(np.uint16)
    netpbm = b"P5\n17 12\n65535\n" + wide.astype(">u2").tobytes()
    data = netpbm if kind == "PPM" else saved(Image.fromarray(wide), kind)
    photo = decode_photo(data, "x")
    np.testing.assert_array_equal(photo.pixels[:, :, 0], np.rint(wide / 257))
    assert photo.grey
    assert photo.notes == ("more than 8 bits a channel reduced to 8",)
    again = opened(encode_photo(photo, photo.pixels))
    assert (again.mode, again.format) == ("L", kind)
    np.testing.assert_array_equal(np.asarray(again), photo.pixels[:, :, 0])


def test_32_bit_integers_and_floats_are_scaled() -> None:
    values = np.arange(12 * 17).reshape(12, 17)
    small = decode_photo(saved(Image.fromarray(values.astype(np.int32)), "TIFF"), "x")
    np.testing.assert_array_equal(small.pixels[:, :, 1], values)
    large = decode_photo(saved(Image.fromarray((values * 10_000_000).astype(np.int32)), "TIFF"), "x")
    np.testing.assert_allclose(large.pixels[:, :, 1], values * 255 / values.max(), atol=0.51)
    real = (values / 1000 - 0.05).astype(np.float32)
    real[0, 0] = np.nan
    assert decode_photo(saved(Image.fromarray(real), "TIFF"), "x").pixels.max() == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if kind == "WEBP" else {}
    photo = decode_photo(saved(first, kind, save_all=True, append_images=[second], **options), "x")
    np.testing.assert_array_equal(photo.pixels, np.asarray(first))
    assert photo.notes[0] == "first frame of an animation"
    assert getattr(opened(encode_photo(photo, photo.pixels)), "n_frames", 1) == 1


def test_two_pictures_of_a_camera_are_one_jpeg() -> None:
    data = saved(faceless(), "MPO", save_all=True, append_images=[faceless(seed=1)])
    photo = decode_photo(data, "x")
    assert (photo.format, photo.notes) == ("JPEG", ("further pictures of the file removed",))
    assert "qtables" in photo.save_options


def deep_png(values: np.ndarray[Any, np.dtype[np.uint16]]) -> bytes:
    """Write uint16 [H, W, 2 to 4] as PNG by hand: Pillow writes no colour of 16 bits."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def deep_tiff(values: np.ndarray[Any, np.dtype[np.uint16]]) -> bytes:
    height, width, _ = values.shape
    bits, strip = 8 + 2 + 10 * 12 + 4, 8 + 2 + 10 * 12 + 4 + 6
    shorts = [(256, width), (257, height), (258, None), (259, 1), (262, 2), (273, strip), (277, 3), (278, height)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in shorts if value is not None]
    entries.insert(2, struct.pack("<HHII", 258, 3, 3, bits))
    entries += [struct.pack("<HHII", 279, 4, 1, values.size * 2), struct.pack("<HHII", 284, 4, 1, 1)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return (
        b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", 16, 16, 16) + values.astype("<u2").tobytes()
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_png_says_that_it_is_reduced(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 17, channels)).astype(np.uint16)
    photo = decode_photo(deep_png(values), "x")
    assert photo.notes == ("more than 8 bits a channel reduced to 8",)
    np.testing.assert_allclose(photo.pixels[:, :, 0], values[:, :, 0] / 257, atol=1)
    assert decode_photo(encode_photo(photo, photo.pixels), "y").notes == ()


def test_16_bit_tiff_and_ppm_say_that_they_are_reduced() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 17, 3)).astype(np.uint16)
    ppm = b"P6\n# a comment 255\n17 12\n65535\n" + values.astype(">u2").tobytes()
    for data, more in ((deep_tiff(values), ()), (ppm, ("comment removed",))):
        photo = decode_photo(data, "x")
        assert photo.notes == ("more than 8 bits a channel reduced to 8", *more)
        np.testing.assert_allclose(photo.pixels, values / 257, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP", "AVIF", "JPEG2000"])
def test_8_bits_are_nothing_to_tell_of(kind: str) -> None:
    notes = decode_photo(saved(faceless(), kind), "x").notes
    assert not any("8 bits" in note for note in notes)


# ---------------------------------------------------------------- HEIC


@pytest.fixture
def heif() -> Any:
    module = pytest.importorskip("pillow_heif")
    module.register_heif_opener()
    return module


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_keeps_what_belongs_to_it(heif: Any, mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB" if mode != "L" else "LAB")).tobytes()
    image = faceless().convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = saved(image, "HEIF", quality=95, exif=exif_of(1), icc_profile=profile, chroma=422)
    photo = decode_photo(data, "x.heic")
    assert (photo.format, photo.grey, photo.notes) == ("HEIF", mode == "L", ())
    assert not photo.is_lossless()
    changed = np.clip(photo.pixels.astype(int) + 20, 0, 255).astype(np.uint8)
    written = encode_photo(photo, changed)
    after = opened(written)
    assert (after.format, after.mode) == ("HEIF", mode)
    assert after.info["icc_profile"] == profile
    assert after.getexif()[0x010F] == "a camera"
    assert after.info.get("chroma") == (None if mode == "L" else 422)
    again = decode_photo(written, "y.heic")
    assert np.abs(again.pixels.astype(int) - changed).mean() < 2
    if mode == "RGBA":
        assert again.alpha is not None and photo.alpha is not None
        assert np.abs(again.alpha.astype(int) - photo.alpha).mean() < 2
    assert len(encode_photo(photo, changed, quality=20)) < len(written)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_heic_of_every_orientation(heif: Any, orientation: int) -> None:
    image = faceless((80, 48))
    data = saved(image, "HEIF", exif=exif_of(orientation), quality=95)
    photo = decode_photo(data, "x.heic")
    upright = ImageOps.exif_transpose(opened(saved(image, "PNG", exif=exif_of(orientation))))
    assert photo.pixels.shape[:2] == upright.size[::-1]
    assert np.abs(photo.pixels.astype(int) - np.asarray(upright)).mean() < 6  # another way up: 50
    for made in (photo, decode_photo(saved(image, "PNG", exif=exif_of(orientation)), "x.png")):
        again = decode_photo(encode_photo(made, made.pixels, file_format="HEIF"), "y.heic")
        assert again.pixels.shape == made.pixels.shape
        assert np.abs(again.pixels.astype(int) - made.pixels).mean() < 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_lossless_heic_stays_lossless_unless_a_quality_is_asked_for(heif: Any, mode: str) -> None:
    image = Image.fromarray(noise(channels=4)).convert(mode)
    data = saved(image, "HEIF", quality=-1, chroma=444, matrix_coefficients=0)
    photo = decode_photo(data, "x")
    assert photo.is_lossless()
    np.testing.assert_array_equal(np.asarray(opened(encode_photo(photo, photo.pixels))), np.asarray(image))
    assert not photo.is_lossless(quality=50)
    lossy = decode_photo(encode_photo(photo, photo.pixels, quality=50), "x")
    assert not np.array_equal(lossy.pixels, photo.pixels)


def test_heic_tells_what_it_loses(heif: Any) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (48, 64, 3)).astype(np.uint16)
    out = io.BytesIO()
    heif.from_bytes(mode="RGB;16", size=(64, 48), data=values.tobytes()).save(out, quality=-1, chroma=444)
    deep = decode_photo(out.getvalue(), "x")
    assert deep.notes == ("more than 8 bits a channel reduced to 8",)
    assert decode_photo(encode_photo(deep, deep.pixels), "y").notes == ()
    two = saved(faceless(), "HEIF", save_all=True, append_images=[faceless(seed=1)])
    assert decode_photo(two, "x").notes == ("main photo of several",)


def test_a_heic_thumbnail_of_the_clean_photo_is_not_written(heif: Any) -> None:
    out = io.BytesIO()
    made = heif.from_pillow(faceless((256, 192)))
    made.info["thumbnails"] = [64]
    made.save(out)
    assert opened(out.getvalue()).info["thumbnails"]
    photo = decode_photo(out.getvalue(), "x")
    assert not opened(encode_photo(photo, photo.pixels)).info["thumbnails"]


def test_truncated_heic(heif: Any) -> None:
    data = saved(faceless((256, 192)), "HEIF")
    assert refused(data[: len(data) // 2]).kind == "truncated"
    assert refused(data[:100]).kind == "not-a-photo"


def test_heic_without_the_extra(heif: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, avif = saved(faceless(), "HEIF"), saved(faceless(), "AVIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refused(data)
    assert (error.kind, error.message) == (
        "needs-extra",
        "some.jpg: a HEIC photo; it needs the extra heif: pip install 'epsilon-tools[heif]'",
    )
    photo = decode_photo(avif, "x.avif")
    assert photo.format == "PNG"
    with pytest.raises(InputError, match="needs the extra heif"):
        encode_photo(photo, photo.pixels, file_format="HEIF")


# ---------------------------------------------------------------- write-back


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_orientation(kind: str, orientation: int) -> None:
    raw, exif = noise(), exif_of(orientation)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(raw), kind, exif=exif, **options)
    photo = decode_photo(data, "x")
    assert photo.orientation == orientation
    upright = ImageOps.exif_transpose(opened(data))
    np.testing.assert_array_equal(photo.pixels, np.asarray(upright))
    # What is changed in the upright photo is changed there in the file.
    changed = photo.pixels.copy()
    changed[0, 0] ^= 255
    again = opened(encode_photo(photo, changed))
    assert ((np.asarray(again) != raw).any(2)).sum() == 1
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(again)), changed)
    back = opened(encode_photo(photo, photo.pixels))
    np.testing.assert_array_equal(np.asarray(back), raw)
    assert back.info["exif"] == opened(data).info["exif"]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_of_a_jpeg(orientation: int) -> None:
    data = saved(faceless((80, 48)), "JPEG", exif=exif_of(orientation), quality=90)
    photo = decode_photo(data, "x")
    assert photo.pixels.shape == ((80, 48, 3) if orientation > 4 else (48, 80, 3))
    back = opened(encode_photo(photo, photo.pixels))
    assert back.info["exif"] == opened(data).info["exif"]
    difference = np.abs(np.asarray(back).astype(int) - np.asarray(opened(data)))
    assert difference.mean() < 1
    as_png = decode_photo(encode_photo(photo, photo.pixels, file_format="PNG"), "x")
    np.testing.assert_array_equal(as_png.pixels, photo.pixels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("told", ["tiff", "xmp"])
def test_an_orientation_that_cannot_be_kept_is_written_upright(told: str, orientation: int) -> None:
    image = Image.fromarray(noise())
    if told == "tiff":
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(image, "TIFF", exif=exif)
    else:
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
        data = saved(image, "WEBP", lossless=True, xmp=xmp.encode())
    photo = decode_photo(data, "x")
    np.testing.assert_array_equal(photo.pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    for kind in (photo.format, "PNG"):
        again = decode_photo(encode_photo(photo, photo.pixels, file_format=kind), "x")
        np.testing.assert_array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("kind", ["BMP", "PPM"])
def test_formats_without_exif_hold_the_photo_upright(kind: str) -> None:
    photo = decode_photo(saved(Image.fromarray(noise()), "PNG", exif=exif_of(6)), "x")
    np.testing.assert_array_equal(np.asarray(opened(encode_photo(photo, photo.pixels, file_format=kind))), photo.pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colour_profile_is_kept(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = decode_photo(saved(faceless(), kind, icc_profile=profile), "x")
    assert opened(encode_photo(photo, photo.pixels)).info["icc_profile"] == profile


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_tables_are_kept(subsampling: int, progressive: bool) -> None:
    from PIL import JpegImagePlugin

    data = saved(faceless(), "JPEG", quality=83, subsampling=subsampling, progressive=progressive)
    before, photo = opened(data), decode_photo(data, "x")
    after = opened(encode_photo(photo, photo.pixels))
    assert after.quantization == before.quantization  # type: ignore[attr-defined]
    assert JpegImagePlugin.get_sampling(after) == subsampling
    assert bool(after.info.get("progressive")) is progressive
    asked = opened(encode_photo(photo, photo.pixels, quality=30))
    assert asked.quantization == opened(saved(faceless(), "JPEG", quality=30)).quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_odd_jpeg_tables_are_kept(mode: str) -> None:
    tables = [[number + 1] * 64 for number in range(3)]
    data = saved(faceless().convert(mode), "JPEG", qtables=tables)
    photo = decode_photo(data, "x")
    after = opened(encode_photo(photo, photo.pixels))
    assert list(after.quantization[0]) == [1] * 64  # type: ignore[attr-defined]


def test_jpeg_tables_numbered_with_gaps() -> None:
    data = bytearray(saved(faceless().convert("L"), "JPEG", quality=70))
    table = data.index(b"\xff\xdb") + 4
    frame = data.index(b"\xff\xc0") + 12
    assert (data[table], data[frame]) == (0, 0)
    data[table] = data[frame] = 2
    photo = decode_photo(bytes(data), "x")
    before, after = opened(bytes(data)), opened(encode_photo(photo, photo.pixels))
    assert list(before.quantization) == [2]  # type: ignore[attr-defined]
    assert after.quantization[0] == before.quantization[2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("quality", "subsampling"), [(None, 0), (50, 0)])
def test_a_jpeg_made_from_another_format(quality: int | None, subsampling: int) -> None:
    from PIL import JpegImagePlugin

    photo = decode_photo(saved(faceless(), "PNG"), "x")
    made = opened(encode_photo(photo, photo.pixels, file_format="JPEG", quality=quality))
    expected = opened(saved(faceless(), "JPEG", quality=quality or 95))
    assert made.quantization == expected.quantization  # type: ignore[attr-defined]
    assert JpegImagePlugin.get_sampling(made) == subsampling


def test_what_a_format_cannot_hold_is_said() -> None:
    wide = decode_photo(saved(Image.new("L", (70_000, 1)), "PNG"), "x")
    with pytest.raises(
        InputError, match=r"^the photo cannot be written as JPEG \(.*\); try file_format png$"
    ) as caught:
        encode_photo(wide, wide.pixels, file_format="JPEG")
    assert caught.value.kind == "unwritable"
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    wordy = decode_photo(saved(faceless(), "PNG", exif=exif), "x")
    with pytest.raises(InputError, match="cannot be written as JPEG"):
        encode_photo(wordy, wordy.pixels, file_format="JPEG")


@pytest.mark.parametrize("chroma", [420, 444])
def test_a_heic_is_coded_once_and_not_by_the_slowest_search(chroma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With x265's default, slow, 8.5 megapixels of 4:4:4 took 56 s, with medium 11."""
    plugin = pytest.importorskip("pillow_heif.as_plugin")
    pytest.importorskip("pillow_heif").register_heif_opener()
    made, original = list[dict[str, Any]](), plugin.CtxEncode

    def encoder(*words: Any, **options: Any) -> Any:
        made.append(options)
        return original(*words, **options)

    monkeypatch.setattr(plugin, "CtxEncode", encoder)
    image = Image.fromarray(noise(64, 96))
    photo = decode_photo(saved(image, "HEIF", quality=80, chroma=chroma), "a.heic")
    made.clear()
    written = encode_photo(photo, photo.pixels)
    (options,) = made
    assert options["enc_params"]["preset"] == "medium"
    assert decode_photo(written, "b.heic").save_options["chroma"] == chroma
    slow = saved(Image.fromarray(photo.pixels), "HEIF", quality=90, chroma=chroma)
    errors = [np.abs(decode_photo(data, "x").pixels - photo.pixels.astype(int)).mean() for data in (written, slow)]
    assert errors[0] < 1.1 * errors[1]
    # An encoder that knows no such setting is not given it.
    monkeypatch.setattr("pillow_heif.libheif_info", lambda: {"HEIF": "kvazaar"})
    encode_photo(photo, photo.pixels)
    assert "preset" not in made[-1].get("enc_params", {})


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("a.jpg", "JPEG", "a.jpg"),
        ("a.JPEG", "JPEG", "a.JPEG"),
        ("a.jfif", "JPEG", "a.jfif"),
        ("a.gif", "PNG", "a.gif.png"),
        ("a.png", "JPEG", "a.png.jpg"),
        ("a.jpg", "PNG", "a.jpg.png"),
        ("a.pgm", "PPM", "a.pgm"),
        ("a.tiff", "TIFF", "a.tiff"),
        ("a", "WEBP", "a.webp"),
        ("IMG_1.HEIC", "HEIF", "IMG_1.HEIC"),
        ("a.hif", "HEIF", "a.hif"),
        ("a.jpg", "HEIF", "a.jpg.heic"),
        ("v1.jpg/a", "JPEG", "v1.jpg/a.jpg"),
        (".jpg", "BMP", ".jpg.bmp"),
    ],
)
def test_fitting_name(name: str, kind: str, fitting: str) -> None:
    assert fitting_name(name, kind) == fitting
    assert fitting_name(fitting, kind) == fitting


# ---------------------------------------------------------------- anything at all


def survives(data: bytes) -> None:
    """Only InputError may come out; what is decoded must be a photo that can be written."""
    try:
        photo = decode_photo(data, "x")
    except InputError as error:
        assert "\n" not in error.message
        return
    height, width, _ = photo.pixels.shape
    assert photo.pixels.dtype == np.uint8
    assert photo.alpha is None or photo.alpha.shape == (height, width)
    if height * width < 1_000_000:
        try:
            again = decode_photo(encode_photo(photo, photo.pixels), "y")
        except InputError as error:
            assert error.kind == "unwritable"
        else:
            assert again.pixels.shape == photo.pixels.shape


SIGNATURES = [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"RIFF\0\1\0\0WEBPVP8 ", b"BM",
              b"II*\0", b"MM\0*", b"P6 9 9 255\n", b"P5\n3 3\n65535\n", b"\0\0\1\0", b"DDS ", b"BLP2"]  # fmt: skip


@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes(signature: bytes, rest: bytes) -> None:
    survives(signature + rest)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes, more often in the headers, and sometimes cut the end off."""
    out = bytearray(data)
    limit = len(out) if rng.random() < 0.4 else min(len(out), 200)
    for _ in range(rng.choice((1, 2, 4, 16))):
        out[rng.randrange(limit)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.2 else out)


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "MPO", "AVIF", "DDS", "TGA", "ICO", "HEIF"]
)
@given(st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_damaged_photos(kind: str, rng: random.Random) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {"exif": exif_of(6)} if kind in ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "HEIF") else {}
    survives(damaged(saved(faceless((40, 24)), kind, **options), rng))


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_real_photo(face_photo: bytes, rng: random.Random) -> None:
    survives(damaged(face_photo, rng))


def test_a_real_photo_goes_through(face_photo: bytes) -> None:
    photo = decode_photo(face_photo, "x")
    again = decode_photo(encode_photo(photo, photo.pixels), "y")
    # Saving a JPEG again with its own tables changes next to nothing.
    assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 0.5
    assert again.save_options["qtables"] == photo.save_options["qtables"]


def test_lab_is_no_transparency() -> None:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    photo = faceless((40, 30))
    image = ImageCms.profileToProfile(photo, rgb, lab, outputMode="LAB")
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(lab).tobytes()
    found = decode_photo(saved(image, "TIFF", icc_profile=image.info["icc_profile"]), "lab.tif")
    assert found.alpha is None
    assert "icc_profile" not in found.save_options
    assert found.notes == ("LAB read as RGB, without its colour profile",)
    assert np.abs(found.pixels.astype(int) - np.asarray(photo)).mean() < 12


def test_what_a_file_says_besides_is_noted_and_its_resolution_kept() -> None:
    texts = PngInfo()
    texts.add_text("Author", "somebody")
    photo = faceless((40, 30))
    found = decode_photo(saved(photo, "PNG", pnginfo=texts, dpi=(240, 240)), "a.png")
    assert found.notes == ("texts removed",)
    again = Image.open(io.BytesIO(encode_photo(found, found.pixels)))
    assert not getattr(again, "text", {})
    assert again.info["dpi"] == pytest.approx((240, 240), abs=0.1)
    spoken = decode_photo(saved(photo, "JPEG", comment=b"at home", dpi=(240, 240)), "a.jpg")
    assert spoken.notes == ("comment removed",)
    again = Image.open(io.BytesIO(encode_photo(spoken, spoken.pixels)))
    assert (again.info.get("comment"), again.info["dpi"]) == (None, (240, 240))
    packed = decode_photo(saved(photo, "TIFF", compression="tiff_lzw"), "a.tif")
    assert Image.open(io.BytesIO(encode_photo(packed, packed.pixels))).info["compression"] == "tiff_lzw"
    assert decode_photo(saved(photo, "JPEG2000"), "a.jp2").notes == ("JPEG2000 is written as PNG",)
    assert decode_photo(saved(photo.convert("1"), "PNG"), "a.png").notes == ("1 bit read as grey",)


def test_what_is_often_there_in_a_photos_place_is_named() -> None:
    assert refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").message.endswith(
        "a Git LFS pointer, and no photo; fetch it with `git lfs pull`"
    )
    assert refused(b"\n<!DOCTYPE html><html></html>").message.endswith(
        "download it again, or if it is the URL of a folder, end it in /"
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    assert refused(packed.getvalue()).message.endswith(
        "a tar archive, and no photo; name it by inputs to read what is in it"
    )
