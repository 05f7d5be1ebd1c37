"""Clean and cloaked faces: reading, pairing, splitting by person."""

from __future__ import annotations

import numpy as np
import pytest

from _toolio.errors import ToolError
from detector_faces import face_at, intake_of, picture, smooth, striped_people
from facetools.detector.crops import resized
from facetools.detector.training.examples import KEPT_PX, Example, ExampleReader, UnusablePhoto, split_people
from facetools.faces.face import Face
from facetools.photos.photo import Pixels, to_bytes
from facetools.training.samples import digest_sources

FACE = face_at(40, 40, 80, 80)


def read(
    reader: ExampleReader, relative: str, pixels: Pixels, *faces: Face, cloak: int = -1, data: bytes = b"x"
) -> Example:
    return reader.read(intake_of(relative, pixels, *faces, data=data), cloak)


def assert_unusable(
    reader: ExampleReader, relative: str, pixels: Pixels, *faces: Face, cloak: int, why: str = "no face"
) -> None:
    with pytest.raises(UnusablePhoto, match=why):
        read(reader, relative, pixels, *faces, cloak=cloak)


def changed(pixels: Pixels, by: int = 3) -> Pixels:
    return np.clip(pixels.astype(int) + by, 0, 255).astype(np.uint8)


def test_an_example_has_more_room_than_its_face() -> None:
    pixels = picture()
    example = read(ExampleReader(), "Ann/lee.jpg.png", pixels, FACE, face_at(0, 0, 20, 20))
    # perturb --format png adds an ending: the copies of a photo have all before their endings in common.
    assert (example.person, example.photo, example.cloaked) == ("Ann", "Ann/lee", False)
    assert np.array_equal(example.pixels, pixels[28:92, 28:92]), "1.6 times the box's side, of the first face"
    assert (example.box, example.origin) == ((12, 12, 52, 52), (28, 28, 92, 92, 120, 140))
    assert not np.shares_memory(example.pixels, pixels)


def test_a_face_at_the_edge_or_a_large_one() -> None:
    pixels = picture(700, 800)
    edge = read(ExampleReader(), "a/1.jpg", pixels, face_at(-10, 600, 90, 720))
    assert np.array_equal(edge.pixels, pixels[564:700, 0:136])
    assert (edge.box, edge.origin) == ((-10, 36, 90, 156), (0, 564, 136, 700, 700, 800))
    large = read(ExampleReader(), "a/1.jpg", pixels, face_at(200, 150, 600, 550))
    assert large.origin == (80, 30, 720, 670, 700, 800)
    assert np.array_equal(large.pixels, to_bytes(resized(pixels[30:670, 80:720], KEPT_PX / 640)))
    assert large.pixels.shape == (KEPT_PX, KEPT_PX, 3)
    assert large.box == pytest.approx((84, 84, 364, 364))
    # One that is clipped is reduced until its longest side fits.
    clipped = read(ExampleReader(), "a/1.jpg", pixels, face_at(200, 100, 600, 500))
    assert clipped.pixels.shape == (434, KEPT_PX, 3)
    assert clipped.box == pytest.approx((84, 70, 364, 350))


def test_a_large_cloaked_copy_is_reduced_as_the_clean_one() -> None:
    reader, pixels = ExampleReader(), picture(700, 800)
    clean = read(reader, "a/1.jpg", pixels, face_at(200, 150, 600, 550))
    cloaked = read(reader, "a/1.jpg", changed(pixels, 5), cloak=0)
    assert (cloaked.partner, cloaked.box, cloaked.origin) == (clean.source, clean.box, clean.origin)
    assert np.array_equal(cloaked.pixels, to_bytes(resized(changed(pixels, 5)[30:670, 80:720], KEPT_PX / 640)))
    assert np.array_equal(clean.cut_alike(pixels), clean.pixels)
    assert not np.shares_memory(clean.cut_alike(pixels), pixels)


def test_the_first_folder_is_the_source() -> None:
    reader, pixels = ExampleReader(), picture()
    groups = {
        name: read(reader, name, pixels, FACE).group for name in ("x/ann/0.jpg", "ann/0.jpg", "0.jpg", "x/y/z/0.jpg")
    }
    assert groups == {"x/ann/0.jpg": "x", "ann/0.jpg": "ann", "0.jpg": "", "x/y/z/0.jpg": "x"}
    # A cloaked copy is of its clean one's source; one without is of its own.
    assert read(reader, "x/ann/0.png", changed(pixels), cloak=0).group == "x"
    assert read(reader, "v/bob/0.png", changed(pixels), FACE, cloak=0).group == "v"


@pytest.mark.parametrize("corner", [(20, 30), (150, 30), (100, 170), (-20, -15), (210, 230)])
def test_elsewhere_is_as_large_a_square_that_has_half_of_the_faces_at_most(corner: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:250, :256]
    pixels = np.stack([columns, rows, np.full_like(rows, 90)], 2).astype(np.uint8)
    x, y = corner
    places = set()
    for number in range(25):
        example = read(ExampleReader(), "ann/0.jpg", pixels, face_at(x, y, x + 60, y + 60), data=bytes([number]))
        left, top, right, bottom = example.origin[:4]
        other = example.elsewhere
        assert other is not None
        assert other.shape == example.pixels.shape
        assert not np.shares_memory(other, pixels)
        at_x, at_y = int(other[0, 0, 0]), int(other[0, 0, 1])
        assert np.array_equal(other, pixels[at_y : at_y + bottom - top, at_x : at_x + right - left])
        wide, high = (
            max(0, length - abs(a - b)) for length, a, b in ((right - left, at_x, left), (bottom - top, at_y, top))
        )
        assert wide * high <= (right - left) * (bottom - top) / 2
        places.add((at_x, at_y))
        again = read(ExampleReader(), "ann/0.jpg", pixels, face_at(x, y, x + 60, y + 60), data=bytes([number]))
        assert np.array_equal(again.elsewhere, other), "the photo decides"
    assert len(places) > 15


def test_of_a_photo_that_a_face_fills_there_is_no_elsewhere() -> None:
    pixels = picture(120, 120)
    assert read(ExampleReader(), "ann/0.jpg", pixels, face_at(10, 10, 110, 110)).elsewhere is None
    # Nor of a cloaked one: it would be called clean.
    reader, pixels = ExampleReader(), picture(250, 250)
    assert read(reader, "ann/0.jpg", pixels, FACE).elsewhere is not None
    assert read(reader, "ann/0.jpg", changed(pixels), cloak=0).elsewhere is None
    assert read(reader, "bob/0.jpg", changed(pixels), FACE, cloak=0).elsewhere is None


def test_a_large_elsewhere_is_reduced() -> None:
    example = read(ExampleReader(), "ann/0.jpg", smooth(1500), face_at(50, 50, 450, 450))
    assert example.elsewhere is not None
    assert example.elsewhere.shape == example.pixels.shape
    assert max(example.pixels.shape) == KEPT_PX


@pytest.mark.parametrize("faces", [(), (face_at(400, 40, 480, 80),), (face_at(-52, 40, -2, 90),)])
def test_without_a_face_or_enough_of_it_there_is_no_example(faces: tuple[Face, ...]) -> None:
    reader = ExampleReader()
    for cloak in (-1, 0):
        assert_unusable(reader, "Ann/lee.jpg", picture(), *faces, cloak=cloak)


@pytest.mark.parametrize("found", [(), (face_at(0, 0, 30, 30),), (face_at(41, 39, 82, 80),)])
def test_a_cloaked_copy_is_cut_where_the_clean_one_was(found: tuple[Face, ...]) -> None:
    reader, pixels = ExampleReader(), picture()
    clean = read(reader, "ann/0.jpg", pixels, FACE)
    cloaked = read(reader, "ann/0.jpg.png", changed(pixels), *found, cloak=2, data=b"y")
    assert (cloaked.cloak, cloaked.cloaked, cloaked.person, cloaked.photo) == (2, True, "ann", "ann/0")
    assert (cloaked.box, cloaked.origin) == (clean.box, clean.origin)
    assert np.array_equal(cloaked.pixels, changed(pixels)[28:92, 28:92])
    assert cloaked.pixels.flags.c_contiguous
    assert (cloaked.partner, clean.partner) == (clean.source, None)
    assert cloaked.source != clean.source
    assert np.array_equal(clean.pixels, pixels[28:92, 28:92]), "it stays as it was"


def test_a_copy_of_another_size_has_its_own_face() -> None:
    reader, pixels = ExampleReader(), picture()
    clean = read(reader, "ann/0.jpg", pixels, FACE)
    larger = picture(121, 140)
    cloaked = read(reader, "ann/0.jpg", larger, face_at(10, 10, 40, 40), cloak=0)
    assert np.array_equal(cloaked.pixels, larger[1:49, 1:49])
    assert (cloaked.photo, cloaked.box) == (clean.photo, (9, 9, 39, 39))
    assert cloaked.partner is None
    assert_unusable(reader, "ann/0.jpg", larger, cloak=0)


def test_a_photo_that_differs_too_much_is_no_copy() -> None:
    reader, pixels = ExampleReader(), np.full((120, 140, 3), 100, np.uint8)
    clean = read(reader, "ann/0.jpg", pixels, FACE)
    # Brighter or darker.
    for by, copy in ((24, True), (-24, True), (25, False), (-25, False)):
        cloaked = read(reader, "ann/0.jpg", changed(pixels, by), face_at(60, 60, 90, 90), cloak=0)
        assert (cloaked.partner == clean.source) is copy
        assert (cloaked.box == clean.box) is copy
    # Only the face counts: what lies around it may have been cut out or blurred.
    around = changed(pixels, 100)
    around[28:92, 28:92] = pixels[28:92, 28:92]
    assert_unusable(reader, "ann/0.jpg", around, cloak=0, why="the same as its clean copy")
    around[60, 60] += 1
    assert read(reader, "ann/0.jpg", around, cloak=0).partner == clean.source


@pytest.mark.parametrize("order", [1, -1])
def test_of_photos_with_one_name_the_nearest_is_the_partner(order: int) -> None:
    one, other = picture(seed=1), picture(seed=2)
    shots = [(one, FACE), (other, face_at(50, 50, 90, 90))][::order]
    reader = ExampleReader()
    sources = [read(reader, "0.jpg", pixels, face, data=bytes([n])).source for n, (pixels, face) in enumerate(shots)]
    for source, (pixels, face) in zip(sources, shots, strict=True):
        cloaked = read(reader, "0.jpg", changed(pixels), cloak=0)
        assert cloaked.partner == source
        x0, y0 = (int(value) - 12 for value in face.box[:2])
        assert np.array_equal(cloaked.pixels, changed(pixels)[y0 : y0 + 64, x0 : x0 + 64])


def test_other_names_are_no_partners() -> None:
    reader, pixels = ExampleReader(), picture()
    read(reader, "ann/0.jpg", pixels, FACE)
    for relative in ("bob/0.jpg", "ann/1.jpg", "0.jpg", "x/ann/0.jpg"):
        assert_unusable(reader, relative, changed(pixels), cloak=0)
    assert read(reader, "ann/0.png", changed(pixels), cloak=0).partner
    # Unless that is what a tool has added.
    named = ExampleReader("_cloaked")
    clean = read(named, "ann/0.1.jpg", pixels, FACE)
    for name in ("ann/0.1_cloaked.png", "ann/0.1_cloaked.jpg.png", "ann/0.1.png"):
        assert read(named, name, changed(pixels), cloak=0).partner == clean.source
    assert_unusable(named, "ann/0.2_cloaked.png", changed(pixels), cloak=0)
    # A clean photo is its own partner never: it is cut at its own face.
    again = read(reader, "ann/0.jpg", pixels, face_at(20, 20, 50, 50))
    assert (again.box, again.origin[:2]) == ((9, 9, 39, 39), (11, 11))
    # Nor is another cloaked one.
    alone = ExampleReader()
    read(alone, "ann/0.jpg", pixels, FACE, cloak=0)
    assert_unusable(alone, "ann/0.jpg", pixels, cloak=1)


def test_the_digest_tells_labels_paths_and_contents_but_not_order() -> None:
    pixels = smooth(120)
    examples = [
        read(ExampleReader(), relative, pixels, FACE, cloak=cloak, data=data)
        for relative in ("ann/0.jpg", "bob/0.jpg")
        for cloak in (-1, 0, 1)
        for data in (b"one", b"two")
    ]
    assert len({digest_sources([example]) for example in examples}) == 12
    assert digest_sources(examples) == digest_sources(examples[::-1])
    assert digest_sources(examples) != digest_sources(examples[1:])
    odd = read(ExampleReader(), "\udcff/0.jpg", pixels, FACE)
    assert len(digest_sources([odd])) == 64


def test_nobody_is_in_both_parts() -> None:
    examples = striped_people(60, side=20)
    known, unseen = split_people(examples, seed=0, share=0.3)
    assert len(known) + len(unseen) == len(examples)
    assert not {e.person for e in known} & {e.person for e in unseen}
    assert 0.15 < len({e.person for e in unseen}) / 60 < 0.45
    other = split_people(examples, seed=1, share=0.3)[1]
    assert {e.person for e in other} != {e.person for e in unseen}


@pytest.mark.parametrize(
    ("lacking", "part"), [("clean", "training"), ("cloaked", "training"), ("unseen", "held-out"), ("all", "training")]
)
def test_a_part_without_both_labels_is_refused(lacking: str, part: str) -> None:
    examples = striped_people(30, side=20)
    known, unseen = split_people(examples, seed=0, share=0.3)
    left = {
        "clean": [e for e in examples if e.cloaked],
        "cloaked": [e for e in examples if not e.cloaked],
        "unseen": known + [e for e in unseen if e.cloaked],
        "all": [],
    }[lacking]
    with pytest.raises(ToolError, match=f"the {part} part lacks clean or cloaked faces"):
        split_people(left, seed=0, share=0.3)
