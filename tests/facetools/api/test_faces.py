"""Photos and faces as ``import facetools`` offers them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facetools
from _toolio.errors import InputError, ToolError
from conftest import saved


def test_a_photo_is_read_upright_in_8_bits(face_photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(face_photo)
    upright = np.asarray(Image.open(io.BytesIO(face_photo)).convert("RGB"))
    assert np.array_equal(facetools.read_photo(tmp_path / "a.jpg"), upright)
    turned = Image.open(io.BytesIO(face_photo)).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "b.png").write_bytes(saved(turned, "PNG", exif=exif))
    assert np.array_equal(facetools.read_photo(str(tmp_path / "b.png")), upright)
    (tmp_path / "c.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"c\.jpg"):
        facetools.read_photo(tmp_path / "c.jpg")
    with pytest.raises(InputError, match="no such file"):
        facetools.find_faces(tmp_path / "d.jpg")


def test_faces_of_a_file_and_of_its_pixels_are_the_same(face_photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(face_photo)
    (found,) = facetools.find_faces(tmp_path / "a.jpg", device="cpu")
    (again,) = facetools.find_faces(facetools.read_photo(tmp_path / "a.jpg"), device="cpu")
    assert found.box == again.box
    assert np.array_equal(found.landmarks, again.landmarks)
    assert found.confidence > 0.9
    side = max(found.box[2] - found.box[0], found.box[3] - found.box[1])
    assert facetools.find_faces(tmp_path / "a.jpg", min_face_px=2 * side, device="cpu") == []
    assert facetools.find_faces(tmp_path / "a.jpg", min_confidence=1.0, device="cpu") == []
    with pytest.raises(ToolError, match="cuda:99"):
        facetools.find_faces(tmp_path / "a.jpg", device="cuda:99")
