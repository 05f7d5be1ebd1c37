"""From an attack on face regions to a cloaked photo, on real photos."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.journal import sha256_of
from _toolio.paths import Item
from conftest import faceless, saved
from facetools.attacks import find, knobs
from facetools.cloaking import LARGEST_SCALE, Cloaker, cloak_photo, locate_region, measure_change, seed_of
from facetools.embedding import chip_of
from facetools.extractors import Extractor, open_extractor
from facetools.faces.alignment import oversampling
from facetools.faces.finder import Face, Finder
from facetools.intake import Intake
from facetools.outputs import Output
from facetools.photos import Photo, decode_photo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder(CPU)


@pytest.fixture(scope="module")
def portrait(face_photo: bytes) -> Image.Image:
    """The middle of a real photo: a face and little else."""
    return Image.open(io.BytesIO(face_photo)).convert("RGB").crop((50, 50, 200, 200))


@pytest.fixture(scope="module")
def face(portrait: Image.Image, finder: Finder) -> Face:
    return finder.find([np.array(portrait)])[0][0]


def moved_face(face: Face, scale: float, x: float = 0, y: float = 0) -> Face:
    x0, y0, x1, y1 = (value * scale + shift for value, shift in zip(face.box, (x, y, x, y), strict=True))
    return Face((x0, y0, x1, y1), face.confidence, (face.landmarks + 0.5) * scale - 0.5 + (x, y))


def cloaked(pixels: Any, faces: list[Face], extractor: Extractor, *, steps: int = 12, seeds: Any = None) -> Any:
    settings = {**knobs(find("lowkey")), "steps": steps}
    return cloak_photo(pixels, faces, [extractor], find("lowkey"), settings, seeds or list(range(len(faces))))


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
    region = locate_region(pixels, placed.landmarks, [extractor])
    assert region is not None
    assert region.scale == 1
    inside = np.zeros(pixels.shape[:2], bool)
    inside[region.top : region.top + region.height, region.left : region.left + region.width] = True
    assert np.array_equal(result[~inside], pixels[~inside])
    assert (result[inside] != pixels[inside]).mean() > 0.5
    change = measure_change(pixels, result, placed, [extractor])
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
    assert not np.array_equal(result, cloaked(pixels, [placed], extractor, steps=0, seeds=[1]))


def test_an_unchanged_photo(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    pixels = np.array(portrait)
    same = cloak_photo(pixels, [face], [extractor], find("none"), {}, [0])
    assert np.array_equal(same, pixels)
    change = measure_change(pixels, same, face, [extractor])
    assert change is not None
    assert (change.moved, change.linf, change.psnr) == (pytest.approx(0, abs=1e-9), 0, np.inf)
    assert change.ssim == pytest.approx(1, abs=1e-5)


def test_a_large_face_is_cloaked_through_a_reduced_scale(
    portrait: Image.Image, face: Face, extractor: Extractor
) -> None:
    size = (portrait.width * 4, portrait.height * 4)
    pixels, large = np.array(portrait.resize(size, Image.Resampling.BICUBIC)), moved_face(face, 4)
    region = locate_region(pixels, large.landmarks, [extractor])
    assert region is not None
    assert region.scale > 1
    matrix = region.matrices[0]
    assert np.sqrt(np.linalg.det(matrix[:, :2])) == pytest.approx(LARGEST_SCALE, rel=0.02)
    change = measure_change(pixels, cloaked(pixels, [large], extractor), large, [extractor])
    assert change is not None
    assert change.moved > 0.1


def test_without_attack_a_large_photo_is_not_resampled(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    pixels = np.array(portrait.resize((600, 600), Image.Resampling.BICUBIC))
    same = cloak_photo(pixels, [moved_face(face, 4)], [extractor], find("none"), {}, [0])
    assert np.array_equal(same, pixels)


def test_two_faces_of_a_photo(real_people: dict[str, list[bytes]], finder: Finder, extractor: Extractor) -> None:
    both = Image.new("RGB", (320, 160), (90, 90, 90))
    for number, photos in enumerate(list(real_people.values())[:2]):
        both.paste(Image.open(io.BytesIO(photos[0])).crop((50, 50, 200, 200)), (5 + 160 * number, 5))
    pixels = np.array(both)
    faces = finder.find([pixels])[0]
    assert len(faces) == 2
    result = cloaked(pixels, faces, extractor)
    for each in faces:
        change = measure_change(pixels, result, each, [extractor])
        assert change is not None
        assert change.moved > 0.1
    # Each face is cloaked for itself: its neighbour does not matter.
    alone = [cloaked(pixels, [each], extractor, seeds=[number]) for number, each in enumerate(faces)]
    summed = np.clip(sum(one.astype(int) - pixels for one in alone) + pixels, 0, 255)
    assert np.abs(summed - result).max() <= 1


def test_a_face_at_the_photos_edge(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    cut = round(float(face.landmarks[2, 0]))
    pixels, placed = np.array(portrait)[:, cut:], moved_face(face, 1, -cut, 0)
    region = locate_region(pixels, placed.landmarks, [extractor])
    assert region is not None
    assert (region.left, region.left + region.width <= pixels.shape[1]) == (0, True)
    result = cloaked(pixels, [placed], extractor)
    assert result.shape == pixels.shape
    change = measure_change(pixels, result, placed, [extractor])
    assert change is not None
    assert change.moved > 0.1


@pytest.mark.parametrize("shift", [(1000, 0), (-1000, 0), (0, 1000), (0, -1000)])
def test_a_face_outside_the_photo(
    portrait: Image.Image, face: Face, extractor: Extractor, shift: tuple[int, int]
) -> None:
    pixels, placed = np.array(portrait), moved_face(face, 1, *shift)
    assert locate_region(pixels, placed.landmarks, [extractor]) is None
    assert measure_change(pixels, pixels, placed, [extractor]) is None
    assert np.array_equal(cloaked(pixels, [placed], extractor, steps=1), pixels)


def test_seeds_belong_to_the_run_the_photo_and_the_face() -> None:
    seeds = {seed_of(run, digest, number) for run in (0, 1) for digest in "ab" for number in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "abc", 1) == seed_of(3, "abc", 1)


def through(
    photo: Photo, faces: tuple[Face, ...], extractor: Extractor, name: str = "a/b.pgm", **options: Any
) -> Output:
    settings = {**knobs(find("lowkey")), "steps": 2}
    chosen = {"seed": 0, "file_format": None, "quality": None, **options}
    cloaker = Cloaker("lowkey", find("lowkey"), settings, [extractor], **chosen)
    return cloaker.cloak(Intake(Item(f"in/{name}", name), b"file", photo, faces, tuple(range(len(faces)))))


def test_a_grey_photo_stays_grey(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    photo = decode_photo(saved(portrait.convert("L"), "PPM"), "b.pgm")
    output = through(photo, (face,), extractor)
    assert output.data is not None
    assert output.data.startswith(b"P5")
    (record,) = output.described
    assert record["moved"] > 0
    assert (output.relative, record["relative"], record["source"]) == ("a/b.pgm", "a/b.pgm", "in/a/b.pgm")
    assert record["source_sha256"] == sha256_of(b"file")
    # What is told was measured on what is saved.
    saved_pixels = decode_photo(output.data, "b.pgm").pixels
    change = measure_change(photo.pixels, saved_pixels, face, [extractor])
    assert change is not None
    assert record["moved"] == pytest.approx(change.moved)


def test_a_photo_without_faces_is_not_written(extractor: Extractor) -> None:
    photo = decode_photo(saved(faceless(), "GIF"), "x.gif")
    output = through(photo, (), extractor, "x.gif")
    assert output.data is None
    (record,) = output.described
    assert record["reason"] == "no face found; nothing written"
    assert record["notes"] == ["GIF is written as PNG"]


def test_a_format_that_cannot_hold_the_photo_is_an_error_record(face: Face, extractor: Extractor) -> None:
    photo = decode_photo(saved(Image.new("L", (66_000, 160)), "PNG"), "wide.png")
    output = through(photo, (moved_face(face, 1, 5000, 0),), extractor, "wide.png", file_format="JPEG")
    assert output.data is None
    (record,) = output.described
    assert record["error"]["kind"] == "unwritable"
    assert record["error"]["message"].startswith("in/wide.png: the photo cannot be written as JPEG")


def test_a_large_face_is_always_attacked_at_one_sample_a_pixel(face: Face, extractor: Extractor) -> None:
    """On the edge between one and four samples, rounding would decide what an attack optimises against."""
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    for scale in np.linspace(1.0, 12.0, 120):
        region = locate_region(pixels, face.landmarks * scale, [extractor])
        assert region is not None
        assert [oversampling(matrix) for matrix in region.matrices] == [1]


def test_moved_is_the_distance_that_embed_measures(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    large = np.asarray(portrait.resize((450, 450), Image.Resampling.BICUBIC))
    big = moved_face(face, 3)
    rng = np.random.default_rng(0)
    other = np.clip(large + rng.normal(0, 20, large.shape), 0, 255).astype(np.uint8)
    change = measure_change(large, other, big, [extractor])
    assert change is not None
    with torch.inference_mode():
        a, b = (extractor.network(chip_of(p, big, extractor))[0].double() for p in (large, other))
    assert change.moved == pytest.approx(float(1 - torch.nn.functional.cosine_similarity(a, b, dim=0)), abs=1e-9)
