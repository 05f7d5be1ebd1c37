"""Aligned chips of faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import faceless
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.alignment import ChipCutter, similarity_to
from facetools.faces.face import Face

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.mark.parametrize(
    ("scale", "x", "y"), [(1, 100, 80), (3, 200, 150), (0.3, 50, 50), (1, -20, 150), (1, 320, 280), (1, 2000, -900)]
)
def test_a_chip_is_the_same_from_its_part_as_from_the_whole_photo(
    extractor: Extractor, scale: float, x: float, y: float
) -> None:
    pixels = np.array(faceless((400, 300)))
    turn = np.array([[0.96, 0.28], [-0.28, 0.96]])
    face = Face((0, 0, 1, 1), 1.0, (extractor.template - 75) @ turn * scale + (x, y))
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    matrix = similarity_to(face.landmarks, extractor.template)
    expected = ChipCutter(matrix, extractor.size, (300, 400), CPU)(whole)
    chip = chip_of(pixels, face, extractor)
    assert chip.shape == (1, 3, 150, 150)
    torch.testing.assert_close(chip, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("spread", [0.0, 1e6])
def test_landmarks_that_make_no_sense_give_a_chip_all_the_same(extractor: Extractor, spread: float) -> None:
    face = Face((0, 0, 1, 1), 1.0, np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1.0]]) * spread + 10)
    chip = chip_of(np.array(faceless()), face, extractor)
    assert chip.shape == (1, 3, 150, 150)
    assert torch.isfinite(chip).all()
