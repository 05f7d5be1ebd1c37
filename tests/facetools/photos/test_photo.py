"""A photo's pixels: rounding, adding a change, comparing shapes, scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetools.photos.photo import Photo, add_change, as_tensor, is_turned, same_shape, scale_to, to_bytes


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_values_are_rounded_and_clipped() -> None:
    values = np.array([-3.0, 0.49, 0.51, 254.6, 300.0])
    assert to_bytes(values).tolist() == [0, 0, 1, 255, 255]


def test_a_change_is_rounded_once_and_clipped() -> None:
    clean = np.array([[[0, 100, 255]]], np.uint8)
    change = np.array([[[-3.0, 0.6, 0.4]]], np.float32)
    assert add_change(clean, change).tolist() == [[[0, 101, 255]]]
    assert add_change(clean, -change).tolist() == [[[3, 99, 255]]]
    assert clean.tolist() == [[[0, 100, 255]]]
    large = pixels(20, 30)
    assert np.array_equal(add_change(large, np.zeros(large.shape, np.float32)), large)


@pytest.mark.parametrize(
    ("other", "same"),
    [((50, 100), True), ((51, 101), True), ((500, 1000), True), ((100, 50), False), ((60, 100), False)],
)
def test_shapes_that_scaling_alone_makes(other: tuple[int, int], same: bool) -> None:
    assert same_shape(np.zeros((100, 200, 3), np.uint8), np.zeros((*other, 3), np.uint8)) is same


def test_a_photo_is_scaled_to_the_size_of_another() -> None:
    assert scale_to(pixels(40, 60), np.zeros((20, 30, 3), np.uint8)).shape == (20, 30, 3)
    flat = np.full((40, 60, 3), 77, np.uint8)
    assert (scale_to(flat, np.zeros((91, 33, 3), np.uint8)) == 77).all()


def test_tensors_are_channels_first_and_at_most_one() -> None:
    values = pixels(4, 5)
    tensor = as_tensor(values)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 4, 5), torch.float32)
    assert tensor[0, 2, 3, 1].item() == pytest.approx(int(values[3, 1, 2]) / 255)
    # A part of a photo is not contiguous.
    assert torch.equal(as_tensor(values[1:3, 2:4]), tensor[:, :, 1:3, 2:4])
    floats = values.astype(np.float32)
    assert torch.equal(as_tensor(floats), tensor)
    assert np.array_equal(floats, values), "the caller's own stay as they are"


@pytest.mark.parametrize(("height", "width"), [(60, 60), (50, 90)])
def test_a_photo_that_is_turned_or_mirrored_is_told_from_one_that_is_changed(height: int, width: int) -> None:
    down, right = np.mgrid[0:height, 0:width]
    photo = np.stack([3 * down + right, 2 * down, 2 * right], 2).astype(np.uint8)
    noisy = add_change(photo, np.random.default_rng(0).normal(0, 12, photo.shape).astype(np.float32))
    turned = [noisy[::-1, ::-1], noisy[::-1], noisy[:, ::-1]]
    if height == width:
        turned += [np.rot90(noisy), np.rot90(noisy, 3), noisy.transpose(1, 0, 2)]
    assert all(is_turned(photo, np.ascontiguousarray(each)) for each in turned)
    flat = np.full_like(photo, 90)
    for other in (photo, noisy, photo // 2, flat, 255 - photo // 2):
        assert not is_turned(photo, other)
    assert not is_turned(flat, flat)


def test_what_is_lossless() -> None:
    webp = Photo(pixels(2, 2), "WEBP", save_options={"lossless": True})
    assert webp.is_lossless()
    assert not webp.is_lossless(quality=90)
    assert webp.is_lossless("PNG", 90)
    assert not webp.is_lossless("JPEG")
    assert not Photo(pixels(2, 2), "JPEG").is_lossless()


def test_what_was_left_out_and_where_it_was_taken() -> None:
    photo = Photo(pixels(2, 2), "PNG", notes=("palette read as RGB", "first frame of an animation"))
    assert photo.left_out == ("first frame of an animation",)
    assert not photo.has_gps
    assert Photo(pixels(2, 2), "JPEG", save_options={"exif": b"damaged"}).has_gps
