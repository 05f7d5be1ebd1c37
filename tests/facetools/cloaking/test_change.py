"""What a cloak did to a face, measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cloaking_faces import change_of, cloaked, moved_face
from facetools.cloaking.change import Change, describe_change, measure_distances
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face


def test_moved_is_the_distance_that_embed_measures(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    large = np.asarray(portrait.resize((450, 450), Image.Resampling.BICUBIC))
    big = moved_face(face, 3)
    rng = np.random.default_rng(0)
    other = np.clip(large + rng.normal(0, 20, large.shape), 0, 255).astype(np.uint8)
    change = change_of(large, other, big, extractor)
    assert change is not None
    with torch.inference_mode():
        a, b = (extractor.network(chip_of(p, big, extractor))[0].double() for p in (large, other))
    assert change.moved == pytest.approx(float(1 - torch.nn.functional.cosine_similarity(a, b, dim=0)), abs=1e-9)


def test_an_extractor_that_gives_no_number_is_no_zero(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    class Broken(torch.nn.Linear):
        def forward(self, chips: torch.Tensor) -> torch.Tensor:
            return torch.full((len(chips), 4), torch.nan)

    broken = replace(extractor, network=Broken(1, 1), name="broken")
    pixels = np.array(portrait)
    distances = measure_distances(pixels, pixels, face, [broken])
    assert np.isnan(distances["broken"])
    fields = describe_change(Change(np.nan, distances, 1.0, np.inf, 0, "x", 0.0))
    assert "not finite" in fields["reason"]


def test_a_crop_is_cloaked_and_measured(portrait: Image.Image, extractor: Extractor) -> None:
    pixels = np.array(portrait.resize((112, 112)))
    crop = Face((0, 0, 112, 112), 1.0, np.empty((0, 2)))
    change = change_of(pixels, cloaked(pixels, [crop], extractor), crop, extractor)
    assert change is not None
    assert change.moved > 0.1
