"""Damaged photos of every format: decoded and written back, or an error of one line, and nothing on stderr."""

from __future__ import annotations

import io
import os
import random
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from PIL import Image, features

from _toolio.errors import InputError
from facetools.photos.codec import decode_photo, encode_photo
from fuzzing import fuzz, mutated

NAME = "photos"

TIFFS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


@cache
def seeds() -> list[bytes]:
    """Return a small photo in every format and mode that is written here."""
    gradient = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    rgb = Image.fromarray(np.dstack([gradient, gradient[::-1], 255 - gradient]))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    ways: list[tuple[Image.Image, dict[str, object]]] = [
        (rgb, {"format": "JPEG", "exif": exif, "comment": b"c"}),
        (rgb, {"format": "JPEG", "progressive": True, "quality": 30}),
        (rgb.convert("CMYK"), {"format": "JPEG"}),
        (rgb, {"format": "PNG", "exif": exif}),
        (rgb.convert("P"), {"format": "PNG", "transparency": 3}),
        (Image.fromarray(gradient.astype(np.uint16) * 250), {"format": "PNG"}),
        (rgb.convert("RGBA"), {"format": "WEBP", "lossless": True}),
        (rgb.convert("P"), {"format": "GIF", "save_all": True, "append_images": [rgb.convert("P").rotate(9)]}),
        *((rgb, {"format": "TIFF", "compression": how}) for how in TIFFS),
        (rgb.convert("1"), {"format": "TIFF", "compression": "group4"}),
        (Image.fromarray(gradient.astype(np.float32)), {"format": "TIFF", "compression": "tiff_lzw"}),
        *((rgb, {"format": name}) for name in ("BMP", "PPM", "ICO", "TGA", "PCX", "MPO")),
    ]
    ways += [(rgb, {"format": "JPEG2000"})] if features.check("jpg_2000") else []
    ways += [(rgb, {"format": "AVIF"})] if features.check("avif") else []
    found = []
    for image, options in ways:
        out = io.BytesIO()
        image.save(out, **options)  # type: ignore[arg-type]
        found.append(out.getvalue())
    try:
        import pillow_heif
    except ImportError:
        return found
    pillow_heif.register_heif_opener()
    out = io.BytesIO()
    rgb.save(out, format="HEIF")
    return [*found, out.getvalue()]


def try_one(rng: random.Random) -> str:
    """Decode a damaged photo, and write it back if it is one still."""
    data = mutated(rng.choice(seeds()), rng)
    with tempfile.TemporaryFile() as chatter:
        stderr = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            end = _decoded(data, rng)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        chatter.seek(0)
        assert not (said := chatter.read(200)), f"on stderr: {said!r}"
    return end


def _decoded(data: bytes, rng: random.Random) -> str:
    try:
        photo = decode_photo(data, "a.jpg")
    except InputError as error:
        assert "\n" not in error.message
        return error.kind
    if photo.pixels.size > 3 * 4_000_000:
        return "large"
    try:
        encode_photo(photo, photo.pixels, strip_gps=rng.random() < 0.5)
    except InputError as error:
        assert "\n" not in error.message
        return error.kind
    return "read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one))
