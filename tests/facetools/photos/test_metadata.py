"""What a photo's file holds besides its pixels; `test_codec` follows it through whole files."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from conftest import saved
from facetools.photos.metadata import orientations, save_options


def opened(photo: Image.Image, kind: str, **options: object) -> tuple[Image.Image, bytes]:
    data = saved(photo, kind, **options)
    image = Image.open(io.BytesIO(data))
    image.load()
    return image, data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_the_exif(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert orientations(opened(Image.new("RGB", (9, 8)), "JPEG", exif=exif)[0]) == (orientation, orientation)


@pytest.mark.parametrize("odd", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_upright(odd: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = odd
    assert orientations(opened(Image.new("RGB", (9, 8)), "JPEG", exif=exif)[0]) == (1, 1)


def test_options_of_a_jpeg_are_its_tables() -> None:
    image, _ = opened(Image.new("RGB", (32, 32), (9, 90, 200)), "JPEG", quality=63, subsampling=1, progressive=True)
    options = save_options(image, "JPEG")
    assert (options["subsampling"], options["progressive"]) == (1, True)
    assert options["qtables"] == [image.quantization[0], image.quantization[1]]
    assert "exif" not in options


def test_a_profile_of_other_colours_is_not_kept() -> None:
    profile = b"profile"
    assert (
        save_options(opened(Image.new("RGB", (9, 8)), "JPEG", icc_profile=profile)[0], "JPEG")["icc_profile"] == profile
    )
    assert "icc_profile" not in save_options(opened(Image.new("CMYK", (9, 8)), "JPEG", icc_profile=profile)[0], "JPEG")
