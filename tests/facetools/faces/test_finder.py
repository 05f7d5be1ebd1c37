import io
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from conftest import LFW, needs_lfw
from facetools.faces import finder as finder_module
from facetools.faces.face import face_of
from facetools.faces.finder import THRESHOLDS, Finder, default_min_face_px

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finder():
    return Finder()


@pytest.fixture(scope="module")
def people():
    photos = []
    with tarfile.open(LFW) as tar:
        for member in tar:
            if member.name.endswith("_0001.jpg"):
                photos.append(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
            if len(photos) == 40:
                return photos
    raise AssertionError("fewer than 40 people")


def covers(faces, point):
    return any(f.box[0] <= point[0] <= f.box[2] and f.box[1] <= point[1] <= f.box[3] for f in faces)


def in_a_canvas(photo):
    canvas = Image.new("RGB", (1000, 750), (90, 90, 90))
    canvas.paste(photo, (600, 300))
    return canvas


def spoiled(photo):
    stream = io.BytesIO()
    photo.filter(ImageFilter.GaussianBlur(2)).save(stream, "JPEG", quality=15)
    return Image.open(stream).convert("RGB")


CHANGES = {  # the change, where the face's middle then is, how many of 40 must be found
    "none": (lambda p: p, (125, 125), 40),
    "rotated 20": (lambda p: p.rotate(20, Image.Resampling.BICUBIC), (125, 125), 40),
    "rotated 45": (lambda p: p.rotate(45, Image.Resampling.BICUBIC), (125, 125), 39),
    "rotated 60": (lambda p: p.rotate(60, Image.Resampling.BICUBIC), (125, 125), 38),
    "scaled 0.3": (lambda p: p.resize((75, 75)), (37, 37), 40),
    "darkened": (lambda p: p.point(lambda value: int(value * 0.12)), (125, 125), 40),
    "canvas": (in_a_canvas, (725, 425), 40),
    "blur and JPEG": (spoiled, (125, 125), 39),
    "tight grey": (lambda p: p.crop((75, 65, 175, 185)).convert("L").convert("RGB"), (50, 60), 39),
}


@needs_lfw
@pytest.mark.parametrize("change", CHANGES)
def test_finds_real_people(finder, people, change):
    do, middle, least = CHANGES[change]
    found = finder.find([np.asarray(do(photo)) for photo in people])
    assert sum(covers(faces, middle) for faces in found) >= least


@needs_lfw
def test_landmarks_are_in_their_order_and_inside_the_box(finder, people):
    for face, *others in finder.find([np.asarray(p) for p in people]):
        left_eye, right_eye, nose, mouth_left, mouth_right = face.landmarks
        assert face.landmarks.shape == (5, 2)
        assert face.landmarks.dtype == np.float64
        assert left_eye[0] < right_eye[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left_eye[1], right_eye[1]) < min(mouth_left[1], mouth_right[1])
        assert left_eye[1] < nose[1] < mouth_left[1] + 5
        assert 0.7 < face.confidence <= 1
        assert all(face.area >= other.area for other in others)


@needs_lfw
def test_a_mirrored_photo_has_mirrored_faces(finder, people):
    photo = np.asarray(people[0])
    (face, *_), (mirrored, *_) = finder.find([photo, np.ascontiguousarray(photo[:, ::-1])])
    expected = face.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [photo.shape[1] - 1, 0]
    assert np.abs(mirrored.landmarks - expected).max() < 4
    assert abs(mirrored.box[0] - (photo.shape[1] - face.box[2])) < 15


@needs_lfw
def test_a_larger_photo_has_the_same_face_larger(finder, people):
    small = people[0]
    large = small.resize((2000, 2000), Image.Resampling.BICUBIC)
    (face, *_), (same, *_) = finder.find([np.asarray(small), np.asarray(large)])
    assert np.abs(np.array(same.box) / 8 - face.box).max() < 8
    assert np.abs((same.landmarks + 0.5) / 8 - 0.5 - face.landmarks).max() < 3


@needs_lfw
def test_a_face_found_in_the_turned_photo_comes_back_to_its_place(finder, people):
    upright_only = Finder(tilt_retry=False)
    turn = np.exp(1j * np.deg2rad(-70))  # anticlockwise for who looks at it, and y grows downwards
    errors = []
    for photo in people[:20]:
        tilted = np.asarray(photo.rotate(70, Image.Resampling.BICUBIC))
        if not upright_only.find([tilted])[0]:
            expected = (upright_only.find([np.asarray(photo)])[0][0].landmarks - 124.5) @ [1, 1j] * turn
            errors += [
                np.abs((face.landmarks - 124.5) @ [1, 1j] - expected).mean() for face in finder.find([tilted])[0][:1]
            ]
    assert len(errors) >= 5
    assert np.median(errors) < 4


@needs_lfw
def test_a_large_tilted_photo(finder, people):
    tilted = people[0].rotate(60, Image.Resampling.BICUBIC)
    ((face, *_),) = finder.find([np.asarray(tilted.resize((1800, 1500), Image.Resampling.BICUBIC))])
    assert abs((face.box[0] + face.box[2]) / 2 - 900) < 200
    assert abs((face.box[1] + face.box[3]) / 2 - 750) < 170
    assert 600 < face.landmarks[:, 0].mean() < 1200


@needs_lfw
def test_the_rest_of_the_list_changes_nothing(finder, people):
    photos = [np.asarray(p) for p in people[:7]] + [np.asarray(in_a_canvas(people[7]))]
    together = finder.find(photos)
    backwards = finder.find(photos[::-1])[::-1]
    for photo, faces, again in zip(photos, together, backwards, strict=True):
        (alone,) = finder.find([photo])
        for other in (faces, again):
            assert [f.box for f in alone] == [f.box for f in other]
            assert [f.confidence for f in alone] == [f.confidence for f in other]
            assert all(np.array_equal(f.landmarks, g.landmarks) for f, g in zip(alone, other, strict=True))


@needs_lfw
def test_photos_in_one_pass_find_the_same_up_to_rounding(finder, people):
    # What an accelerator does: many photos a pass, and resizing in floats.
    photos = [np.asarray(p) for p in people[:5]]
    batch = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        together = finder._find_with_retry(batch, 20.0)
        in_floats = finder._find_once(batch.float(), 20.0)
    for alone, faces, floats in zip(finder.find(photos), together, in_floats, strict=True):
        assert len(alone) == len(faces)
        for f, g in zip(alone, faces, strict=True):
            np.testing.assert_allclose(f.landmarks, g.landmarks, atol=1e-2)
        assert np.abs(alone[0].landmarks - floats[0].landmarks).max() < 4


@needs_lfw
def test_strips_change_nothing(finder, people, monkeypatch):
    photo = np.asarray(in_a_canvas(people[0]))
    (before,) = finder.find([photo])
    monkeypatch.setattr("facetools.faces.finder._PIXELS_PER_STRIP", 5_000)
    monkeypatch.setattr("facetools.faces.finder._CROPS_PER_PASS", 7)
    (after,) = finder.find([photo])
    assert len(before) == len(after)
    for f, g in zip(before, after, strict=True):
        np.testing.assert_allclose(f.landmarks, g.landmarks, atol=1e-2)
        np.testing.assert_allclose(f.box, g.box, atol=1e-2)


@needs_lfw
def test_small_faces_are_left_out_on_request(finder, people):
    photo = np.asarray(in_a_canvas(people[0].resize((75, 75))))  # the face is about 35 pixels high
    assert covers(finder.find([photo])[0], (637, 337))
    assert not finder.find([photo], min_face_px=150)[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (11, 11), (12, 12), (20, 33), (60, 4000)])
def test_photos_of_any_size_without_a_face(finder, size):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    for photo in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert finder.find([photo]) == [[]]


def cut(photo, face, side):
    """A photo that ends within the face, of which 45% of the width or height are lost."""
    x0, y0, x1, y1 = (int(value) for value in face.box)
    across, down = int(0.45 * (x1 - x0)), int(0.45 * (y1 - y0))
    left, top, right, bottom = {
        "left": (x0 + across, 0, 250, 250), "right": (0, 0, x1 - across, 250), "bottom": (0, 0, 250, y1 - down)
    }[side]  # fmt: skip
    return np.asarray(photo.crop((left, top, right, bottom))), (left, top)


@needs_lfw
@pytest.mark.parametrize(("side", "before", "least"), [("left", 17, 18), ("right", 13, 15), ("bottom", 10, 17)])
def test_faces_that_the_border_cuts(finder, people, monkeypatch, side, before, least):
    def found(margin_side):
        monkeypatch.setattr(finder_module, "_MARGIN_SIDE", margin_side)
        upright, number = Finder(stretch_retry=False, tilt_retry=False), 0
        for photo, face in zip(people[:20], whole, strict=True):
            part, shift = cut(photo, face, side)
            expected = face.landmarks - shift
            number += any(abs(each.landmarks - expected).mean() < 15 for each in upright.find([part])[0])
        return number

    whole = [faces[0] for faces in finder.find([np.asarray(photo) for photo in people[:20]])]
    assert found(0) <= before
    assert found(80) >= least


@needs_lfw
def test_beyond_the_border_faces_are_added_and_none_is_changed(people, monkeypatch):
    photos = [np.asarray(photo) for photo in people[:12]] + [np.asarray(people[0].crop((125, 0, 250, 250)))]
    with_margin = Finder().find(photos)
    monkeypatch.setattr(finder_module, "_MARGIN_SIDE", 0)
    for faces, before in zip(with_margin, Finder().find(photos), strict=True):
        boxes = {face.box: face for face in faces}
        for face in before:
            assert np.array_equal(boxes[face.box].landmarks, face.landmarks)


@needs_lfw
def test_small_faces_of_a_panorama(finder, people):
    panorama, middles = Image.new("RGB", (6000, 900), (90, 110, 130)), []
    for number, (photo, (face, *_)) in enumerate(
        zip(people[:18], finder.find([np.asarray(photo) for photo in people[:18]]), strict=True)
    ):
        side = round(250 * 45 / (face.box[3] - face.box[1]))
        left, top = 40 + number * 330, 100 + number * 131 % 650
        panorama.paste(photo.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        middles.append((left + side / 2, top + side / 2))
    for picture, places in (
        (panorama, middles),
        (panorama.transpose(Image.Transpose.ROTATE_90), [(y, 6000 - x) for x, y in middles]),
    ):
        faces = (finder if picture is panorama else Finder(rotations=True)).find([np.asarray(picture)])[0]
        assert sum(covers(faces, middle) for middle in places) == 18
        assert len(faces) <= 19
        assert all(a.area >= b.area for a, b in pairwise(faces))


@needs_lfw
@pytest.mark.parametrize(("degrees", "least"), [(90, 11), (180, 11), (270, 10)])
def test_faces_on_their_side_and_upside_down(finder, people, degrees, least):
    back, right = np.exp(-1j * np.deg2rad(degrees)), 0
    for photo, (face, *_) in zip(people[:12], finder.find([np.asarray(photo) for photo in people[:12]]), strict=True):
        turned = finder.find([np.asarray(photo.rotate(degrees))])[0]
        expected = (face.landmarks - 124.5) @ [1, 1j] * back
        for other in turned[:1]:
            right += np.abs((other.landmarks - 124.5) @ [1, 1j] - expected).mean() < 6
            # The box is turned with the face.
            sides = [other.box[2] - other.box[0], other.box[3] - other.box[1]]
            upright = [face.box[2] - face.box[0], face.box[3] - face.box[1]]
            assert (sides[0] > sides[1]) == ((upright[0] > upright[1]) ^ (degrees != 180))
    assert right >= least


@needs_lfw
def test_rotations_find_a_face_upside_down_beside_an_upright_one(finder, people):
    both = Image.new("RGB", (500, 250))
    both.paste(people[0], (0, 0))
    both.paste(people[1].rotate(180), (250, 0))
    (upright,) = [face for face in finder.find([np.asarray(both)])[0] if face.confidence > 0.95]
    faces = Finder(rotations=True).find([np.asarray(both)])[0]
    assert covers(faces, (375, 125))
    assert upright.box in [face.box for face in faces]
    (other,) = [face for face in faces if abs(face.box[0] + face.box[2] - 750) < 60]
    assert other.landmarks[0][0] > other.landmarks[1][0]
    assert other.landmarks[0][1] > other.landmarks[3][1]


@needs_lfw
def test_the_least_confidence(finder, people):
    photos = [np.asarray(spoiled(photo)) for photo in people[:12]]
    every = finder.find(photos)
    sure = Finder(thresholds=(*THRESHOLDS[:2], 0.999)).find(photos)
    assert 0 < sum(map(len, sure)) < sum(map(len, every))
    assert all(face.confidence > 0.999 for faces in sure for face in faces)


def test_no_photos(finder):
    assert finder.find([]) == []


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((30, 30), np.uint8),
        np.zeros((30, 30, 4), np.uint8),
        np.zeros((30, 30, 3)),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_what_is_not_a_photo_is_refused(finder, photo):
    with pytest.raises(ValueError, match="photo 0"):
        finder.find([photo])


@pytest.mark.parametrize("least", [0, -3, float("nan")])
def test_a_smallest_face_that_cannot_be(finder, least):
    with pytest.raises(ValueError, match="min_face_px"):
        finder.find([], min_face_px=least)


def test_default_smallest_face():
    assert default_min_face_px(250, 250) == 20
    assert default_min_face_px(3000, 4000) == 100
    assert default_min_face_px(4000, 6000) == 150
    assert default_min_face_px(3000, 20_000) == 125
    assert default_min_face_px(1000, 60_000) == pytest.approx(41.67, abs=0.01)


@needs_lfw
def test_landmarks_are_placed_in_a_box_that_is_drawn(finder, people):
    """A box that is off by a tenth of its sides leaves them near those that are found; a mean face is farther off."""
    placed, mean = [], []
    for photo in people[:8]:
        pixels = np.asarray(photo)
        face = finder.find([pixels])[0][0]
        x0, y0, x1, y1 = face.box
        by = 0.1 * (x1 - x0)
        drawn = (x0 + by, y0 - by, x1 + by, y1)
        eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
        points = finder.place_landmarks(pixels, drawn)
        alone = face_of({"path": "x", "box": list(drawn)}, "x").landmarks
        placed.append(np.linalg.norm(points - face.landmarks, axis=1).mean() / eyes)
        mean.append(np.linalg.norm(alone - face.landmarks, axis=1).mean() / eyes)
    assert max(placed) < 0.15
    assert np.mean(placed) < 0.6 * np.mean(mean)


def test_nothing_is_placed_where_no_face_is(finder):
    flat = np.full((90, 120, 3), 90, np.uint8)
    assert finder.place_landmarks(flat, (20.0, 20.0, 70.0, 80.0)) is None
    assert finder.place_landmarks(flat, (500.0, 500.0, 570.0, 580.0)) is None
    assert finder.place_landmarks(flat, (3.0, 3.0, 4.0, 4.5)) is None


def test_one_photo_is_laid_out_as_several_are() -> None:
    """Another layout is resized to the same bytes, but half as fast."""
    photo = np.zeros((20, 30, 3), np.uint8)
    one, two = finder_module._as_batch([photo]), finder_module._as_batch([photo, photo])
    assert one.stride() == two.stride()
    assert one.data_ptr() == photo.ctypes.data
    photo.setflags(write=False)
    assert finder_module._as_batch([photo]).stride() == two.stride()
