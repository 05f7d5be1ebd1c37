"""From an attack on face regions to a cloaked photo, on real photos."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import Item
from conftest import faceless, saved
from facetools.attacks.registry import find
from facetools.cloaking.change import Change, describe_change, measure_change, measure_distances
from facetools.cloaking.cloaker import Cloaker
from facetools.cloaking.engine import Done, Job, Recipe, add_changes, cloak_faces, make_mask, seed_of
from facetools.cloaking.person_masks import Masks, gather, save_masks
from facetools.cloaking.region_view import RegionView
from facetools.cloaking.regions import LARGEST_SCALE, Region, cut_out, fade_mask, locate_region
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.alignment import oversampling
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.intake import Intake
from facetools.outputs import Output
from facetools.perceptual.blur import smooth
from facetools.perceptual.distance import open_distance
from facetools.perceptual.ssim import Substitute
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Photo
from facetools.photos.saving import Saving

CPU = torch.device("cpu")
DISTANCE = open_distance(None, allow_download=False, device=CPU)


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


def recipe_of(extractor: Extractor, name: str = "lowkey", **knobs: Any) -> Recipe:
    method = find(name)
    return Recipe(method, None, {**method.knobs, **knobs}, [extractor], DISTANCE, 0)


def cloaked(pixels: Any, faces: list[Face], extractor: Extractor, *, steps: int = 12, seeds: Any = None) -> Any:
    jobs = [Job(pixels, face, seed) for face, seed in zip(faces, seeds or range(len(faces)), strict=False)]
    # One at a time, as on a CPU: together, sign steps would follow other last bits.
    recipe = recipe_of(extractor, steps=steps)
    return add_changes(pixels, [cloak_faces([job], recipe)[0] for job in jobs])


def change_of(clean: Any, other: Any, face: Face, extractor: Extractor) -> Change | None:
    return measure_change(clean, other, face, [extractor], DISTANCE)


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


def test_seeds_belong_to_the_run_the_photo_and_the_face() -> None:
    seeds = {seed_of(run, digest, number) for run in (0, 1) for digest in "ab" for number in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "abc", 1) == seed_of(3, "abc", 1)


def through(
    photo: Photo, faces: tuple[Face, ...], extractor: Extractor, name: str = "a/b.pgm", **options: Any
) -> Output:
    cloaker = Cloaker(recipe_of(extractor, steps=2), Saving(**options))
    intake = Intake(Item(f"in/{name}", name), b"file", photo, faces, tuple(range(len(faces))))
    (output,) = cloaker.cloak([intake])
    return output


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
    change = change_of(photo.pixels, saved_pixels, face, extractor)
    assert change is not None
    assert record["moved"] == pytest.approx(change.moved)


def test_a_photo_without_faces_is_not_written(extractor: Extractor) -> None:
    photo = decode_photo(saved(faceless(), "GIF"), "x.gif")
    output = through(photo, (), extractor, "x.gif")
    assert output.data is None
    (record,) = output.described
    assert record["reason"] == "no face found; nothing written"
    assert record["notes"] == ["palette read as RGB", "GIF is written as PNG"]


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
        region = locate_region(pixels, Face(face.box, 1.0, face.landmarks * scale), [extractor])
        assert region is not None
        assert [oversampling(matrix) for matrix in region.matrices] == [1]


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


def test_a_crop_is_cloaked_and_measured(portrait: Image.Image, extractor: Extractor) -> None:
    pixels = np.array(portrait.resize((112, 112)))
    crop = Face((0, 0, 112, 112), 1.0, np.empty((0, 2)))
    change = change_of(pixels, cloaked(pixels, [crop], extractor), crop, extractor)
    assert change is not None
    assert change.moved > 0.1


def test_a_mask_of_a_person_moves_a_photo_that_it_was_not_made_from(
    real_people: dict[str, list[bytes]], finder: Finder, extractor: Extractor, tmp_path: Any
) -> None:
    intakes = []
    person, photos = next(iter(real_people.items()))
    for number, data in enumerate(photos):
        photo = decode_photo(data, person)
        faces = tuple(finder.find([photo.pixels])[0][:1])
        intakes.append(Intake(Item(f"{person}/{number}.jpg", f"{person}/{number}.jpg"), data, photo, faces, (0,)))
    recipe = recipe_of(extractor, "opom", steps=6)
    mask = make_mask(gather(intakes[:-1])[person], person, recipe)
    save_masks(tmp_path / "m.safetensors", {person: mask}, {})
    masks = Masks(tmp_path / "m.safetensors")
    assert torch.equal(masks.of(f"{person}/new.jpg", "x"), mask)
    job = Job(intakes[-1].photo.pixels, intakes[-1].faces[0], 0, person, mask)
    result = add_changes(job.pixels, cloak_faces([job], recipe))
    change = change_of(job.pixels, result, job.face, extractor)
    assert change is not None
    assert change.moved > 0.02
    assert change.linf <= 255 * recipe.knobs["epsilon"] + 1
