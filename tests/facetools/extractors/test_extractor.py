"""What an extractor says of itself."""

from __future__ import annotations

import torch

from facetools.extractors.extractor import Extractor
from facetools.extractors.settings import Settings


def test_it_hands_on_its_settings() -> None:
    settings = Settings((112, 96), "arcface-112", distance="euclidean")
    extractor = Extractor("x", "mobilefacenet", torch.nn.Linear(2, 3), settings, 3, "f" * 64)
    assert (extractor.size, extractor.alignment, extractor.distance) == ((112, 96), "arcface-112", "euclidean")
    assert extractor.device == torch.device("cpu")
    assert extractor.template is not None
    assert extractor.template.shape == (5, 2)
    assert ((extractor.template > 0) & (extractor.template < 112)).all()
    crop = Extractor("x", "mobilefacenet", torch.nn.Linear(2, 3), Settings((32, 32), "crop"), 3, "f" * 64)
    assert crop.template is None
