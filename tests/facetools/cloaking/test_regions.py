"""The part of a photo that an attack on a face may change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cloaking_faces import CPU, change_of, cloaked, moved_face, recipe_of
from facetools.cloaking.engine import Job, add_changes, cloak_faces
from facetools.cloaking.regions import LARGEST_SCALE, fade_mask, locate_region
from facetools.extractors.extractor import Extractor
from facetools.faces.alignment import oversampling
from facetools.faces.face import Face


def test_a_large_face_is_cloaked_through_a_reduced_scale(
    portrait: Image.Image, face: Face, extractor: Extractor
) -> None:
    size = (portrait.width * 4, portrait.height * 4)
    pixels, large = np.array(portrait.resize(size, Image.Resampling.BICUBIC)), moved_face(face, 4)
    region = locate_region(pixels, large, [extractor])
    assert region is not None
    assert region.scale > 1
    matrix = region.matrices[0]
    assert np.sqrt(np.linalg.det(matrix[:, :2])) == pytest.approx(LARGEST_SCALE, rel=0.02)
    change = change_of(pixels, cloaked(pixels, [large], extractor), large, extractor)
    assert change is not None
    assert change.moved > 0.1


def test_without_attack_a_large_photo_is_not_resampled(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    pixels = np.array(portrait.resize((600, 600), Image.Resampling.BICUBIC))
    same = add_changes(pixels, cloak_faces([Job(pixels, moved_face(face, 4), 0)], recipe_of(extractor, "none")))
    assert np.array_equal(same, pixels)


def test_a_face_at_the_photos_edge(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    cut = round(float(face.landmarks[2, 0]))
    pixels, placed = np.array(portrait)[:, cut:], moved_face(face, 1, -cut, 0)
    region = locate_region(pixels, placed, [extractor])
    assert region is not None
    assert (region.left, region.left + region.width <= pixels.shape[1]) == (0, True)
    result = cloaked(pixels, [placed], extractor)
    assert result.shape == pixels.shape
    change = change_of(pixels, result, placed, extractor)
    assert change is not None
    assert change.moved > 0.1


@pytest.mark.parametrize("shift", [(1000, 0), (-1000, 0), (0, 1000), (0, -1000)])
def test_a_face_outside_the_photo(
    portrait: Image.Image, face: Face, extractor: Extractor, shift: tuple[int, int]
) -> None:
    pixels, placed = np.array(portrait), moved_face(face, 1, *shift)
    assert locate_region(pixels, placed, [extractor]) is None
    assert change_of(pixels, pixels, placed, extractor) is None
    assert np.array_equal(cloaked(pixels, [placed], extractor, steps=1), pixels)


def test_a_large_face_is_always_attacked_at_one_sample_a_pixel(face: Face, extractor: Extractor) -> None:
    """On the edge between one and four samples, rounding would decide what an attack optimises against."""
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    for scale in np.linspace(1.0, 12.0, 120):
        region = locate_region(pixels, Face(face.box, 1.0, face.landmarks * scale), [extractor])
        assert region is not None
        assert [oversampling(matrix) for matrix in region.matrices] == [1]


def test_a_change_fades_out_inside_the_photo_only(face: Face, extractor: Extractor) -> None:
    region = locate_region(np.zeros((600, 600, 3), np.uint8), moved_face(face, 1, 200, 200), [extractor])
    assert region is not None
    mask = fade_mask(region, CPU)[0, 0]
    edges = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert float(edges.max()) < 0.1
    assert float(mask[region.height // 2, region.width // 2]) == 1
    # A crop is all face: nothing fades.
    crop = Face((0, 0, 112, 112), 1.0, np.empty((0, 2)))
    whole = locate_region(np.zeros((112, 112, 3), np.uint8), crop, [extractor])
    assert whole is not None
    assert (whole.height, whole.width) == (112, 112)
    assert bool((fade_mask(whole, CPU) == 1).all())
