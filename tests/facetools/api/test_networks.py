"""Networks as ``import facetools`` offers them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import facetools
from _toolio.errors import ToolError, UsageError
from facetools.detector.files import SHIPPED
from facetools.embeddings.chips import chip_of


def test_the_default_extractor_embeds_a_face(face_photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(face_photo)
    extractor = facetools.open_extractor(device="cpu")
    photo = facetools.read_photo(tmp_path / "a.jpg")
    (face,) = facetools.find_faces(photo, device="cpu")
    with torch.inference_mode():
        embedding = extractor.network(chip_of(photo, face, extractor))
    assert embedding.shape == (1, extractor.dimensions)
    assert facetools.open_extractor(extractor.name, device="cpu").sha256 == extractor.sha256
    with pytest.raises(UsageError, match="nobody"):
        facetools.open_extractor("nobody", device="cpu")


def test_the_installed_detector_and_others(tmp_path: Path) -> None:
    shipped = facetools.open_detector(device="cpu")
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(SHIPPED.read_bytes())
    assert facetools.open_detector(str(copy), device="cpu").threshold == shipped.threshold
    with pytest.raises(ToolError, match="gone"):
        facetools.open_detector(tmp_path / "gone.safetensors", device="cpu")
