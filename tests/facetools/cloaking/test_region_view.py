"""How attacks see face regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cloaking_faces import CPU, DISTANCE, moved_face
from facetools.cloaking.region_view import RegionView
from facetools.cloaking.regions import cut_out, fade_mask, locate_region
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face


def view_of(pixels: list[np.ndarray], faces: list[Face], extractor: Extractor, **options: object) -> RegionView:
    regions = [locate_region(each, face, [extractor]) for each, face in zip(pixels, faces, strict=True)]
    assert all(regions)
    clean = [cut_out(each, region, CPU) for each, region in zip(pixels, regions, strict=True)]
    return RegionView([extractor], regions, clean, distance=DISTANCE, seeds=[1, 2], **options)


@pytest.fixture(scope="module")
def two(portrait: Image.Image, face: Face) -> tuple[list[np.ndarray], list[Face]]:
    """A face, and the same a little smaller: regions of two sizes."""
    small = portrait.resize((120, 120), Image.Resampling.BICUBIC)
    return [np.array(portrait), np.array(small)], [face, moved_face(face, 0.8)]


def test_it_embeds_what_embed_embeds(two: tuple[list[np.ndarray], list[Face]], extractor: Extractor) -> None:
    view = view_of(*two, extractor)
    with torch.inference_mode():
        (embeddings,) = view.embed(view.clean)
        for n, (pixels, face) in enumerate(zip(*two, strict=True)):
            chip = chip_of(pixels, face, extractor)
            assert torch.nn.functional.cosine_similarity(embeddings[n], extractor.network(chip)[0], dim=0) > 0.9999
        # Several versions of all regions lie one after the other.
        (both,) = view.embed(torch.cat([view.clean, view.clean]))
        torch.testing.assert_close(both, torch.cat([embeddings, embeddings]), rtol=1e-4, atol=1e-5)
    assert view.features(view.clean)[0].shape == embeddings.shape


def test_changes_fade_and_equal_photos_are_not_apart(
    two: tuple[list[np.ndarray], list[Face]], extractor: Extractor
) -> None:
    view = view_of(*two, extractor)
    assert view.perceptual(view.clean).abs().max() < 1e-5
    assert view.dssim(view.clean).abs().max() < 1e-5
    lighter = (view.clean + 0.1).clamp(0, 1)
    faded = view.faded(lighter)
    fade = fade_mask(locate_region(two[0][0], two[1][0], [extractor]), CPU)
    height, width = fade.shape[-2:]
    change = (faded - view.clean)[:1, :, :height, :width]
    torch.testing.assert_close(change, (lighter - view.clean)[:1, :, :height, :width] * fade, rtol=0, atol=1e-6)
    assert (view.dssim(lighter) > 1e-4).all()


def test_blurring_stays_inside_a_region(two: tuple[list[np.ndarray], list[Face]], extractor: Extractor) -> None:
    view = view_of(*two, extractor)
    ones = torch.zeros_like(view.clean)
    small = locate_region(two[0][1], two[1][1], [extractor]).work_size
    ones[1, :, : small[0], : small[1]] = 1
    blurred = view.smooth(ones, 7, 3.0)
    # Padding, which is 0, would darken the edges.
    torch.testing.assert_close(blurred[1, :, : small[0], : small[1]], torch.ones(3, *small), rtol=0, atol=1e-5)
    assert blurred[1, :, small[0] :].abs().max() == 0


def test_a_mask_lies_where_its_matrix_says(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    # Moved by 10 to the right and 5 down, a mask pixel is a region's pixel.
    matrix = np.array([[1.0, 0, 10], [0, 1, 5]])
    view = view_of([np.array(portrait)], [face], extractor, mask_matrices=[matrix])
    mask = torch.zeros(3, 16, 16)
    mask[0, 4, 6] = 0.25
    laid = view.lay(mask) - view.clean
    expected = torch.zeros_like(laid)
    before = view.clean[0, 0, 9, 16]
    expected[0, 0, 9, 16] = (before + 0.25).clamp(max=1) - before
    torch.testing.assert_close(laid, expected, rtol=0, atol=1e-4)
    assert torch.equal(view.lay(torch.zeros(3, 16, 16)), view.clean)


def test_a_grey_region_stays_grey_under_a_mask(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    grey = np.array(portrait.convert("L").convert("RGB"))
    view = view_of([grey], [face], extractor, mask_matrices=[np.array([[1.0, 0, 10], [0, 1, 5]])])
    mask = torch.zeros(3, 16, 16)
    mask[0] = 0.06
    laid = view.lay(mask)
    assert torch.equal(laid[:, 0], laid[:, 1])
    assert torch.equal(laid[:, 0], laid[:, 2])
    assert (laid - view.clean).max() == pytest.approx(0.02, abs=1e-5)
