"""Gaussian blur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from facetools.perceptual import blur as perceptual
from facetools.perceptual.blur import gaussian_kernel, smooth
from facetools.perceptual.ssim import multiscale_dssim, ssim
from perceptual_photos import as_array, blurred_inside, photos


def test_smooth_can_be_differentiated_twice() -> None:
    leaf = photos(1, 5, 6).double().requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: smooth(x, 5, 1.0).pow(3).mean(), (leaf,))


@pytest.mark.parametrize("size", [(40, 33), (64, 20), (11, 11), (75, 98)])
def test_the_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    a = photos(2, *size)

    def results() -> list[Any]:
        leaf = a.clone().requires_grad_(True)
        value = ssim(leaf, photos(2, *size, seed=1)).sum() + smooth(leaf, 7, 3.0).square().sum()
        (slope,) = torch.autograd.grad(value, leaf)
        return [value.detach(), slope, smooth(a, 7, 3.0)]

    small = results()
    monkeypatch.setitem(perceptual._BLOCK, "cpu", 1000)
    for blocks, whole in zip(small, results(), strict=True):
        torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-5)


def test_smooth_against_the_definition() -> None:
    a = photos(1, 12, 9)
    padded = np.pad(as_array(a[0]), ((0, 0), (3, 3), (3, 3)), mode="reflect")
    expected = np.stack([blurred_inside(plane, 7, 3.0) for plane in padded])
    np.testing.assert_allclose(smooth(a, 7, 3.0)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (3, 3), (4, 4)])
def test_smooth_keeps_small_and_flat_photos(size: tuple[int, int]) -> None:
    flat = torch.full((1, 3, *size), 0.3)
    torch.testing.assert_close(smooth(flat, 7, 3.0), flat)


def test_kernel() -> None:
    kernel = gaussian_kernel(7, 3.0).double()
    assert kernel.sum().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(kernel, kernel.flip(0))
    assert (kernel[3] / kernel[0]).item() == pytest.approx(np.exp(0.5), rel=1e-5)


def test_what_is_made_in_inference_mode_serves_gradients_too() -> None:
    perceptual._band.cache_clear()
    gaussian_kernel.cache_clear()
    a = photos(1, 21, 19)
    with torch.inference_mode():
        ssim(a, a)
    leaf = a.clone().requires_grad_(True)
    multiscale_dssim(leaf, photos(1, 21, 19, seed=1)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() > 0
