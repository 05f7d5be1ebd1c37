"""How changed photos are saved."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facetools.photos.formats import Format
from facetools.photos.photo import Photo
from facetools.photos.saving import Saving

PHOTO = Photo(np.full((8, 9, 3), 200, np.uint8), "PNG")


@pytest.mark.parametrize(
    ("suffix", "relative", "kind", "name"),
    [
        ("", "a/b.jpg", "JPEG", "a/b.jpg"),
        ("_x", "a/b.jpg", "JPEG", "a/b_x.jpg"),
        ("_x", "a/b.gif", "PNG", "a/b_x.gif.png"),
        ("", "a.b/c", "WEBP", "a.b/c.webp"),
    ],
)
def test_names(suffix: str, relative: str, kind: str, name: str) -> None:
    assert Saving(suffix=suffix).name(relative, kind) == name


@pytest.mark.parametrize(("chosen", "kind"), [(Format.keep, "PNG"), (Format.webp, "WEBP"), (Format.jpeg, "JPEG")])
def test_formats(chosen: Format, kind: str) -> None:
    saving = Saving.to_format(chosen, quality=80)
    assert saving.quality == 80
    image = Image.open(io.BytesIO(saving.encode(PHOTO, PHOTO.pixels)))
    assert (image.format, image.size) == (kind, (9, 8))


def test_it_is_there_before_numpy() -> None:
    code = "import sys, facetools.photos.saving; sys.exit(bool({'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
