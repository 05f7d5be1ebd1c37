"""From landmarks to chips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facetools.faces.alignment import (
    CENTER_ROOM,
    MOST_SAMPLES,
    ChipCutter,
    chip_matrix,
    oversampling,
    similarity_to,
    template_of,
)
from facetools.faces.face import Face

CPU = torch.device("cpu")
DLIB_150 = template_of("dlib-150", (150, 150))


def similarity(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def laid(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@given(st.floats(0.01, 100), st.floats(-math.pi, math.pi), st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_a_known_similarity_is_recovered(scale: float, angle: float, x: float, y: float) -> None:
    matrix = similarity(scale, angle, x, y)
    np.testing.assert_allclose(similarity_to(laid(DLIB_150, matrix), DLIB_150), matrix, rtol=1e-9, atol=1e-8)


def test_the_least_squares_solution_is_found() -> None:
    rng = np.random.default_rng(0)
    points = laid(DLIB_150, similarity(1.3, 0.2, 10, 20)) + rng.normal(size=(5, 2)) * 3
    found = similarity_to(points, DLIB_150)
    best = ((laid(DLIB_150, found) - points) ** 2).sum()
    # An independent solution: x' = ax - by + c, y' = bx + ay + d is linear in a, b, c, d.
    zero, one = np.zeros(5), np.ones(5)
    x, y = DLIB_150.T
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, c, d), *_ = np.linalg.lstsq(rows, points.T.reshape(-1), rcond=None)
    np.testing.assert_allclose(found, [[a, -b, c], [b, a, d]], rtol=1e-9)
    shifted = found + np.array([[0, 0, 0.1], [0, 0, 0]])
    assert best < ((laid(DLIB_150, shifted) - points) ** 2).sum()


def test_a_centre_chip_lies_around_the_face_and_inside_a_crop() -> None:
    face = Face((100, 50, 140, 110), 1.0, DLIB_150)
    matrix = chip_matrix(face, (400, 300), "center", (224, 224))
    side = CENTER_ROOM * 60
    np.testing.assert_allclose(matrix @ [-0.5, -0.5, 1], [120 - side / 2 - 0.5, 80 - side / 2 - 0.5])
    np.testing.assert_allclose(matrix @ [223.5, 223.5, 1], [120 + side / 2 - 0.5, 80 + side / 2 - 0.5])
    crop = Face((0, 0, 300, 400), 1.0, np.empty((0, 2)))
    matrix = chip_matrix(crop, (400, 300), "center", (224, 224))
    np.testing.assert_allclose(matrix @ [-0.5, -0.5, 1], [-0.5, 49.5])
    np.testing.assert_allclose(matrix @ [223.5, 223.5, 1], [299.5, 349.5])


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    matrix = similarity_to(DLIB_150 * (-1, 1), DLIB_150)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_landmarks_in_one_point_give_a_finite_matrix() -> None:
    assert np.isfinite(similarity_to(np.full((5, 2), 7.0), DLIB_150)).all()
    assert np.isfinite(similarity_to(DLIB_150, np.zeros((5, 2)))).all()


@pytest.mark.parametrize(
    ("scale", "samples"), [(0.2, 1), (1, 1), (1.25, 1), (1.3, 2), (2, 2), (7.5, 8), (40, MOST_SAMPLES)]
)
def test_oversampling(scale: float, samples: int) -> None:
    assert oversampling(similarity(scale, 0.7, 0, 0)) == samples


def test_the_identity_cuts_exactly() -> None:
    photos = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    chips = ChipCutter(similarity(1, 0, 7, 3), (30, 30), (40, 50), CPU)(photos)
    torch.testing.assert_close(chips, photos[:, :, 3:33, 7:37], rtol=0, atol=1e-5)


def test_a_quarter_turn_cuts_exactly() -> None:
    photos = torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    chips = ChipCutter(similarity(1, math.pi / 2, 29, 0), (30, 30), (30, 30), CPU)(photos)
    # The chip's x axis points down the photo.
    torch.testing.assert_close(chips, photos.transpose(2, 3).flip(2), rtol=0, atol=5e-6)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    photos = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    chips = ChipCutter(similarity(1, 0, 2.5, 3), (10, 10), (20, 20), CPU)(photos)
    torch.testing.assert_close(chips, (photos[:, :, 3:13, 2:12] + photos[:, :, 3:13, 3:13]) / 2, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [2, 4, 6, 20])
def test_a_large_checkerboard_averages_out(scale: int) -> None:
    side = 12 * scale
    board = (torch.arange(side)[:, None] + torch.arange(side)) % 2
    photos = board.float().expand(1, 3, side, side)
    # Chip pixel 0 covers the photo's first pixels.
    chips = ChipCutter(similarity(scale, 0, (scale - 1) / 2, (scale - 1) / 2), (12, 12), (side, side), CPU)(photos)
    assert (chips[:, :, 1:-1, 1:-1] - 0.5).abs().max() < 0.04


def test_beyond_the_edge_the_nearest_pixel_counts() -> None:
    photos = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    chips = ChipCutter(similarity(1, 0, -20, 2), (10, 10), (5, 5), CPU)(photos)
    torch.testing.assert_close(chips[:, :, 0], photos[:, :, 2, :1].expand(1, 3, 10), rtol=0, atol=1e-6)


def test_gradient_flows_to_the_pixels_that_the_chip_covers() -> None:
    photos = torch.rand(1, 3, 40, 40).requires_grad_(True)
    cut = ChipCutter(similarity(2, 0.1, 10, 10), (10, 10), (40, 40), CPU)
    cut(photos).sum().backward()
    assert photos.grad is not None
    # Each of 100 chip pixels is a mean: what flows back adds up to one each and channel.
    assert photos.grad.sum().item() == pytest.approx(300, rel=1e-4)
    assert photos.grad[:, :, :4].abs().max() == 0
    assert (photos.grad[:, :, 16:22, 16:22] > 0).all()


def test_chips_of_a_batch_do_not_depend_on_it() -> None:
    photos = torch.rand(5, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    cut = ChipCutter(similarity(1.7, 0.4, 5, 5), (25, 25), (64, 48), CPU)
    for number, chip in enumerate(cut(photos)):
        torch.testing.assert_close(chip, cut(photos[number : number + 1])[0], rtol=0, atol=1e-6)
