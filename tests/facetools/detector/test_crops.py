"""The crops of a face that the network is shown."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from detector_faces import picture, smooth
from facetools.detector.crops import (
    CROP_SCALE,
    LARGEST_PX,
    SMALLEST_PX,
    cut_square,
    face_crops,
    resized,
    square_of,
    windows_of,
)


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((40, 40, 60, 60), (26, 26)),
        ((-10, -10, 30, 30), (36, 36)),
        ((120, 100, 160, 140), (26, 26)),
        ((0, 0, 139, 119), (120, 140)),
        ((40, 40, 60, 50), (26, 26)),
    ],
)
def test_a_square_is_clipped_to_the_photo(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    pixels = picture()
    (part,) = face_crops(pixels, box)
    assert part.shape[:2] == shape
    assert part.dtype == np.uint8
    whole = np.lib.stride_tricks.sliding_window_view(pixels, (*part.shape[:2], 3))[:, :, 0]
    assert (whole == part).all((2, 3, 4)).any(), "the photo's own pixels, unscaled"


@pytest.mark.parametrize(
    "box", [(200, 0, 260, 60), (0, -90, 60, -30), (-65, 0, -5, 60), (50, 50, 50, 50), (60, 60, 20, 20)]
)
def test_of_a_face_outside_the_photo_nothing_is_looked_at(box: tuple[float, float, float, float]) -> None:
    assert face_crops(picture(), box) == []
    assert cut_square(picture(), box, CROP_SCALE, LARGEST_PX) is None


def test_too_little_of_a_face_is_nothing() -> None:
    # 1.3 x 10 pixels around the edge: of 6.5 each side 7 are in the photo.
    assert face_crops(picture(), (-5.0, 40.0, 5.0, 50.0)) == []
    (part,) = face_crops(picture(), (-4.0, 40.0, 6.0, 50.0))
    assert part.shape[:2] == (14, SMALLEST_PX)


def test_a_large_face_is_looked_at_reduced_alone() -> None:
    pixels = picture(600, 900)
    box = (250.0, 100.0, 650.0, 500.0)
    (reduced,) = face_crops(pixels, box)
    assert reduced.shape == (LARGEST_PX, LARGEST_PX, 3)
    assert reduced.dtype == np.float32
    assert reduced.flags.c_contiguous
    # Averaged, not picked: noise becomes calmer.
    assert reduced.std() < pixels.std() * 0.7
    # And the whole square, 1.3 x 400 pixels, is in it: with its left half dark, the copy is so too.
    half = pixels.copy()
    half[:, :450] = 0
    (dark,) = face_crops(half, box)
    assert dark[:, : LARGEST_PX // 2 - 3].max() == 0
    assert dark[:, LARGEST_PX // 2 + 3 :].mean() > 100


def test_the_largest_square_that_is_not_reduced() -> None:
    pixels = picture(400, 400)
    side = LARGEST_PX / CROP_SCALE
    (whole,) = face_crops(pixels, (200 - side / 2, 200 - side / 2, 200 + side / 2, 200 + side / 2))
    assert whole.shape == (LARGEST_PX, LARGEST_PX, 3)
    assert whole.dtype == np.uint8
    # Of one that is a pixel larger no pixel is left as it was.
    (larger,) = face_crops(pixels, (199 - side / 2, 199 - side / 2, 200 + side / 2, 200 + side / 2))
    assert larger.shape == (LARGEST_PX, LARGEST_PX, 3)
    assert larger.dtype == np.float32


@pytest.mark.parametrize("side", [240, 420, 1153])
def test_a_reduced_crop_is_not_rounded(side: int) -> None:
    """What is left of a faint cloak is less than a grey level: a change to every other pixel alone is seen."""
    pixels = smooth(side)
    changed = pixels.copy()
    changed[::2, ::2] += 1
    box = (0.15 * side, 0.15 * side, 0.85 * side, 0.85 * side)
    (before,), (after,) = face_crops(pixels, box), face_crops(changed, box)
    assert (before % 1 != 0).mean() > 0.8
    # Of four pixels one is a grey level brighter.
    assert (after - before).mean() == pytest.approx(0.25, abs=0.005)
    assert (after >= before - 1e-4).all()
    # Rounded, most of it would be lost or a whole level.
    if side > 400:
        assert np.abs(after - before - 0.25)[2:-2, 2:-2].max() < 0.2


def test_a_photo_is_reduced_as_pillow_does(face_photo: bytes) -> None:
    """Antialiased bilinear; Pillow rounds."""
    photo = Image.open(io.BytesIO(face_photo)).convert("RGB")
    pixels = np.array(photo)
    for factor in (0.4, 0.75):
        small = resized(pixels, factor)
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        expected = np.array(photo.resize(size, Image.Resampling.BILINEAR), np.float32)
        assert small.shape == expected.shape
        assert np.abs(small - expected).max() < 1.6, "Pillow rounds after rows and after columns"


def test_a_square_has_its_side_and_its_middle() -> None:
    assert square_of((40, 30, 60, 40), 1.5, 10**9, (100, 100)) == (35, 20, 65, 50)
    assert square_of((40, 30, 60, 40), 1.5, 20, (100, 100)) == (40, 25, 60, 45)
    assert square_of((40.2, 30, 60.2, 40), 1.5, 10**9, (42, 50)) == (35, 20, 50, 42)


def test_a_reduced_copy_keeps_its_shape_down_to_some_pixels() -> None:
    (tall,) = face_crops(picture(600, 60), (0.0, 100.0, 60.0, 500.0))
    assert tall.shape[:2] == (LARGEST_PX, round(60 * LARGEST_PX / 520))
    (thin,) = face_crops(picture(900, 10), (0.0, 100.0, 10.0, 700.0))
    assert thin.shape[:2] == (LARGEST_PX, SMALLEST_PX)


@pytest.mark.parametrize(
    "shape", [(1, 1), (8, 300), (100, 192), (192, 193), (300, 191), (383, 384), (385, 577), (1080, 1920), (3000, 10)]
)
def test_windows_reach_every_pixel(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    boxes = [tuple(map(int, box)) for box in windows_of(shape)]
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
        assert (y1 - y0, x1 - x0) == (min(LARGEST_PX, shape[0]), min(LARGEST_PX, shape[1]))
        assert 0 <= x0 < x1 <= shape[1]
        assert 0 <= y0 < y1 <= shape[0]
    assert seen.min() == 1, "as few as reach everywhere lie nowhere all upon each other"
    rows, columns = (sorted({box[axis] for box in boxes}) for axis in (1, 0))
    side = LARGEST_PX
    assert boxes == [(x, y, min(x + side, shape[1]), min(y + side, shape[0])) for y in rows for x in columns]
    for length, starts in zip(shape, (rows, columns), strict=True):
        assert len(starts) == -(-length // LARGEST_PX)
        assert np.ptp(np.diff(starts)) <= 1 if len(starts) > 1 else starts == [0]
