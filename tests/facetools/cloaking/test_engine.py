"""Attacks on faces, added back to photos."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from cloaking_faces import CPU, change_of, cloaked, moved_face, recipe_of
from facetools.cloaking import engine
from facetools.cloaking.engine import Done, Job, add_changes, cloak_faces, seed_of
from facetools.cloaking.region_view import RegionView
from facetools.cloaking.regions import Region, cut_out, locate_region
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.perceptual.blur import smooth
from facetools.perceptual.ssim import Substitute


def test_a_cloak_moves_the_embedding_and_nothing_outside_the_region(
    portrait: Image.Image, face: Face, extractor: Extractor
) -> None:
    # A wide border, so that there is an outside.
    canvas = Image.new("RGB", (300, 260), (120, 90, 60))
    canvas.paste(portrait, (100, 60))
    pixels, placed = np.array(canvas), moved_face(face, 1, 100, 60)
    before = pixels.copy()
    result = cloaked(pixels, [placed], extractor)
    assert np.array_equal(pixels, before)
    region = locate_region(pixels, placed, [extractor])
    assert region is not None
    assert region.scale == 1
    inside = np.zeros(pixels.shape[:2], bool)
    inside[region.top : region.top + region.height, region.left : region.left + region.width] = True
    assert np.array_equal(result[~inside], pixels[~inside])
    assert (result[inside] != pixels[inside]).mean() > 0.5
    change = change_of(pixels, result, placed, extractor)
    assert change is not None
    assert change.moved > 0.1
    assert change.moved == pytest.approx(change.distances["dlib-resnet"])
    assert change.linf == np.abs(result.astype(int) - pixels).max()
    assert change.linf <= 255 * (0.005 + 12 * 0.0025) + 1
    assert 0.5 < change.ssim < 1
    part = (result[inside].astype(float) - pixels[inside]) / 255
    assert change.psnr == pytest.approx(-10 * np.log10((part**2).mean()), abs=0.05)
    # Its own seed, and no other's, decides a face.
    assert np.array_equal(result, cloaked(pixels, [placed], extractor))
    assert not np.array_equal(result, cloaked(pixels, [placed], extractor, seeds=[1]))


def test_an_unchanged_photo(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    pixels = np.array(portrait)
    same = add_changes(pixels, cloak_faces([Job(pixels, face, 0)], recipe_of(extractor, "none")))
    assert np.array_equal(same, pixels)
    change = change_of(pixels, same, face, extractor)
    assert change is not None
    assert (change.moved, change.linf, change.psnr) == (pytest.approx(0, abs=1e-9), 0, np.inf)
    assert change.ssim == pytest.approx(1, abs=1e-5)


def test_two_faces_of_a_photo(real_people: dict[str, list[bytes]], finder: Finder, extractor: Extractor) -> None:
    both = Image.new("RGB", (320, 160), (90, 90, 90))
    for number, photos in enumerate(list(real_people.values())[:2]):
        both.paste(Image.open(io.BytesIO(photos[0])).crop((50, 50, 200, 200)), (5 + 160 * number, 5))
    pixels = np.array(both)
    faces = finder.find([pixels])[0]
    assert len(faces) == 2
    result = cloaked(pixels, faces, extractor)
    for each in faces:
        change = change_of(pixels, result, each, extractor)
        assert change is not None
        assert change.moved > 0.1
    # Each face is cloaked for itself: its neighbour does not matter.
    alone = [cloaked(pixels, [each], extractor, seeds=[number]) for number, each in enumerate(faces)]
    summed = np.clip(sum(one.astype(int) - pixels for one in alone) + pixels, 0, 255)
    assert np.abs(summed - result).max() <= 1


def test_seeds_belong_to_the_run_the_photo_and_the_face() -> None:
    seeds = {seed_of(run, digest, number) for run in (0, 1) for digest in "ab" for number in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "abc", 1) == seed_of(3, "abc", 1)


def test_a_batch_gives_what_each_face_gives_alone(
    real_people: dict[str, list[bytes]], finder: Finder, extractor: Extractor
) -> None:
    """Regions of different sizes share a batch: padding must not be seen."""
    jobs = []
    for number, photos in enumerate(list(real_people.values())[:3]):
        image = Image.open(io.BytesIO(photos[0])).convert("RGB")
        pixels = np.array(image.resize([round(side * (1 + 0.2 * number)) for side in image.size]))
        jobs.append(Job(pixels, finder.find([pixels])[0][0], number))
    # Few steps with a smooth rule: after many sign steps last bits would have grown.
    recipe = recipe_of(extractor, steps=2)
    together, alone = cloak_faces(jobs, recipe), [cloak_faces([job], recipe)[0] for job in jobs]
    assert len({each.region.work_size for each in alone if each.region}) > 1
    for one, other in zip(together, alone, strict=True):
        assert (np.abs(one.change - other.change) > 0.01).mean() < 0.02


def test_crops_of_different_sizes_share_a_batch(portrait: Image.Image, extractor: Extractor) -> None:
    """Nothing fades at a crop's edge: what the blurred photo is padded with would be seen."""
    jobs = []
    for size in (100, 150):
        pixels = np.array(portrait.crop((60, 60, 190, 190)).resize((size, size)))
        jobs.append(Job(pixels, Face((0, 0, size, size), 1.0, np.empty((0, 2))), size))
    regions = [locate_region(job.pixels, job.face, [extractor]) for job in jobs]
    clean = [cut_out(job.pixels, region, CPU) for job, region in zip(jobs, regions, strict=True) if region]
    together = RegionView([extractor], [r for r in regions if r], clean, distance=Substitute(), seeds=[0, 1])
    both = together.smooth(torch.cat([together.clean, together.clean]), 7, 3.0)
    for version in (0, 2):
        for number, part in enumerate(clean):
            height, width = part.shape[2:]
            alone = smooth(part, 7, 3.0)
            torch.testing.assert_close(both[version + number][None, :, :height, :width], alone, rtol=0, atol=1e-6)


def test_changes_of_overlapping_regions_keep_the_bound() -> None:
    pixels = np.full((40, 40, 3), 100, np.uint8)
    parts = [Region(0, 0, 30, 30, 1.0, (), (False,) * 4), Region(10, 10, 30, 30, 1.0, (), (False,) * 4)]
    changes = [np.full((30, 30, 3), 8.0, np.float32), np.full((30, 30, 3), 6.0, np.float32)]
    changes[1][:10, :10] = -3
    out = add_changes(pixels, [Done(part, change) for part, change in zip(parts, changes, strict=True)])
    assert (out[0, 0, 0], out[39, 39, 0]) == (108, 106)
    assert out[12, 12, 0] == 105  # 8 - 3
    assert out[25, 25, 0] == 108  # 8 + 6 would go beyond both
    assert (out[0, 39, 0], out[39, 0, 0]) == (100, 100)


def test_changes_of_a_large_face_are_added_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2000, 1500, 3), dtype=np.uint8)
    places = [Region(0, 0, 2000, 1500, 1.0, (), (False,) * 4), Region(700, 900, 31, 200, 1.0, (), (True,) * 4)]
    done = [Done(each, rng.uniform(-9, 9, (each.height, each.width, 3)).astype(np.float32)) for each in places]
    tracemalloc.start()
    whole = add_changes(pixels, done)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The result takes 9 MB, a float of each pixel 36.
    assert peak < 9e6 + 8 * 12 * 500_000
    monkeypatch.setattr(engine, "_PIXELS_PER_STRIP", 4_000)
    assert np.array_equal(add_changes(pixels, done), whole)


def test_a_large_face_moves_as_far_without_stains_of_colour(
    portrait: Image.Image, face: Face, extractor: Extractor
) -> None:
    large, placed = np.array(portrait.resize((450, 450), Image.Resampling.BICUBIC)), moved_face(face, 3)
    tint, moved = {}, {}
    for as_small in (0, 1):
        recipe = recipe_of(extractor, steps=8, large_brightness=1 - as_small)
        result = add_changes(large, cloak_faces([Job(large, placed, 0)], recipe))
        change = change_of(large, result, placed, extractor)
        assert change is not None
        difference = result.astype(float) - large
        tint[as_small], moved[as_small] = (difference - difference.mean(2, keepdims=True)).std(), change.moved
    assert moved[0] > 0.8 * moved[1] > 0.05
    assert tint[0] < 0.4 * tint[1]
