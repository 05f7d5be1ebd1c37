"""SSIM, PSNR and the perceptual distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facetools.perceptual import ssim as module
from facetools.perceptual.blur import smooth
from facetools.perceptual.ssim import Reference, Substitute, multiscale_dssim, psnr, ssim
from perceptual_photos import Array, as_array, blurred_inside, photos


def reference_ssim(a: Array, b: Array, window: int = 11) -> float:
    """Wang et al. 2004, equation 13, mean over channels and positions, in float64."""
    values = []
    for x, y in zip(a, b, strict=True):
        mx, my = blurred_inside(x, window, 1.5), blurred_inside(y, window, 1.5)
        vx = blurred_inside(x * x, window, 1.5) - mx**2
        vy = blurred_inside(y * y, window, 1.5) - my**2
        cov = blurred_inside(x * y, window, 1.5) - mx * my
        c1, c2 = 1e-4, 9e-4
        values.append(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    return float(np.mean(values))


def test_equal_photos_are_alike() -> None:
    a = photos()
    torch.testing.assert_close(ssim(a, a), torch.ones(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(multiscale_dssim(a, a), torch.zeros(2), rtol=0, atol=1e-5)
    assert torch.isinf(psnr(a, a)).all()


@pytest.mark.parametrize(("noise", "size"), [(0.02, (40, 33)), (0.3, (40, 33)), (0.1, (7, 30)), (0.1, (4, 4))])
def test_ssim_against_the_definition(noise: float, size: tuple[int, int]) -> None:
    a = photos(2, *size)
    b = (a + noise * (photos(2, *size, seed=1) - 0.5)).clamp(0, 1)
    window = min(11, *size)
    window -= 1 - window % 2
    expected = [reference_ssim(as_array(x), as_array(y), window) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("size", [(40, 33), (121, 133), (11, 11), (64, 300)])
def test_ssim_is_piqs(noise: float, size: tuple[int, int]) -> None:
    import piq

    a = photos(2, *size)
    b = (a + noise * (photos(2, *size, seed=1) - 0.5)).clamp(0, 1)
    options: dict[str, Any] = {"kernel_size": 11, "kernel_sigma": 1.5, "data_range": 1.0, "downsample": False}
    # Nine times float32's resolution near 1 is the most that was measured: both add up 121 products a window.
    theirs = piq.ssim(a, b, **options, reduction="none")
    torch.testing.assert_close(ssim(a, b), theirs, rtol=0, atol=2e-6)
    # In double precision what is left comes from our kernel, which is float32 whatever the photos are.
    theirs = piq.ssim(a.double(), b.double(), **options, reduction="none")
    torch.testing.assert_close(ssim(a.double(), b.double()), theirs, rtol=0, atol=5e-9)


def test_the_slope_of_ssim_is_piqs() -> None:
    import piq

    b = photos(2)
    slopes = []
    for measure in (ssim, lambda x, y: piq.ssim(x, y, data_range=1.0, downsample=False, reduction="none")):
        a = (b + 0.1 * (photos(2, seed=1) - 0.5)).clamp(0, 1).double().requires_grad_(True)
        slopes.append(torch.autograd.grad(measure(a, b.double()).sum(), a)[0])
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5 * slopes[1].abs().max().item())


def test_ssim_of_two_flat_photos_is_known() -> None:
    a, b = torch.full((1, 3, 20, 20), 0.2), torch.full((1, 3, 20, 20), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [(40, 33), (75, 11), (11, 42), (64, 97)])
def test_gradients_are_right(size: tuple[int, int]) -> None:
    # Against finite differences, in double precision; sides around the blocks' 32 lines.
    a, b = photos(1, *size).double(), photos(1, *size, seed=1).double()
    way = torch.randn(a.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for measure in (lambda x: ssim(x, b), lambda x: multiscale_dssim(x, b), lambda x: smooth(x, 7, 3.0).square()):
        leaf = a.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(measure(leaf).sum(), leaf)
        step = 1e-5
        expected = (measure(a + step * way).sum() - measure(a - step * way).sum()) / (2 * step)
        assert (slope * way).sum().item() == pytest.approx(expected.item(), rel=1e-5)


def test_psnr_is_known() -> None:
    a = torch.full((2, 3, 8, 8), 0.5)
    b = a.clone()
    b[0] += 0.1
    b[1] -= 0.01
    np.testing.assert_allclose(psnr(a, b).numpy(), [20, 40], atol=1e-3)


def test_multiscale_dssim_is_the_mean_over_three_sizes() -> None:
    a, b = photos(1, 88, 90), photos(1, 88, 90, seed=1)
    values = []
    x, y = as_array(a[0]), as_array(b[0])
    for _ in range(3):
        values.append((1 - reference_ssim(x, y)) / 2)
        x, y = (
            z[:, : z.shape[1] // 2 * 2, : z.shape[2] // 2 * 2]
            .reshape(3, z.shape[1] // 2, 2, z.shape[2] // 2, 2)
            .mean((2, 4))
            for z in (x, y)
        )
    assert multiscale_dssim(a, b).item() == pytest.approx(np.mean(values), abs=2e-5)


SIZES = [(60, 50), (25, 64), (43, 30), (70, 64), (9, 13), (7, 30)]


def padded(parts: list[torch.Tensor], seed: int) -> torch.Tensor:
    """Lay photos into the upper left of noise."""
    out = photos(len(parts), 71, 66, seed=seed)
    for own, part in zip(out, parts, strict=True):
        own[:, : part.shape[-2], : part.shape[-1]] = part
    return out


@pytest.mark.parametrize("measure", ["ssim", "dssim", "multiscale_dssim"])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[:4], SIZES[1:2]])
def test_padding_does_not_count(measure: str, sizes: list[tuple[int, int]]) -> None:
    clean = [photos(1, *size, seed=n) for n, size in enumerate(sizes)]
    versions = [[(c + 0.2 * photos(1, *c.shape[-2:], seed=7 + n)).clamp(0, 1) for c in clean] for n in range(2)]
    reference = Reference(padded([c[0] for c in clean], 20), sizes)
    leaf = torch.cat([padded([v[0] for v in parts], 21 + n) for n, parts in enumerate(versions)])
    leaf.requires_grad_(True)
    found = getattr(reference, measure)(leaf)
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    for n, (photo, own) in enumerate(zip([*versions[0], *versions[1]], slope, strict=True)):
        alone = photo.clone().requires_grad_(True)
        expected = getattr(Reference(clean[n % len(clean)]), measure)(alone)
        torch.testing.assert_close(found[n : n + 1], expected, rtol=1e-6, atol=1e-6)
        height, width = photo.shape[-2:]
        torch.testing.assert_close(
            own[:, :height, :width], torch.autograd.grad(expected.sum(), alone)[0][0], rtol=1e-4, atol=1e-7
        )
        assert own[:, height:].abs().sum() == 0
        assert own[:, :, width:].abs().sum() == 0


def test_a_reference_says_what_the_functions_say() -> None:
    clean, versions = photos(2, 50, 45), [photos(2, 50, 45, seed=n) for n in (1, 2, 3)]
    reference = Reference(clean)
    for found, function in ((reference.ssim, ssim), (reference, multiscale_dssim)):
        expected = torch.cat([function(version, clean) for version in versions])
        torch.testing.assert_close(found(torch.cat(versions)), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(Substitute().to(clean)(versions[0]), Substitute().distance(versions[0], clean))


def test_a_reference_made_in_inference_mode_serves_gradients() -> None:
    with torch.inference_mode():
        clean = photos(1, 30, 30)
        reference = Reference(clean)
        reference.multiscale_dssim(clean)
    leaf = photos(1, 30, 30, seed=1).requires_grad_(True)
    reference.multiscale_dssim(leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() > 0


def test_no_photos_have_no_distance() -> None:
    assert Reference(torch.zeros(0, 3, 20, 20)).multiscale_dssim(torch.zeros(0, 3, 20, 20)).shape == (0,)


@pytest.mark.parametrize("measure", [ssim, psnr, multiscale_dssim])
def test_photos_of_a_batch_do_not_influence_each_other(measure: Any) -> None:
    a, b = photos(3), photos(3, seed=1)
    alone = torch.cat([measure(a[n : n + 1], b[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(measure(a, b), alone, rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """Record the number of values of the largest tensor that is made."""

    values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.values = max(self.values, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize("size", [(230, 33), (64, 170), (12, 400), (900, 9)])
def test_strips_change_neither_ssim_nor_its_scales(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = photos(2, *size).double(), photos(2, *size, seed=1).double()
    whole = ssim(a, b), multiscale_dssim(a, b)
    monkeypatch.setattr(module, "LARGEST_WHOLE", 1_000)
    for in_strips, at_once in zip((ssim(a, b), multiscale_dssim(a, b)), whole, strict=True):
        torch.testing.assert_close(in_strips, at_once, rtol=0, atol=1e-12)
    slope = a.clone().requires_grad_(True)
    multiscale_dssim(slope, b).sum().backward()
    assert slope.grad is not None
    assert slope.grad.abs().max() > 0


def test_a_large_photo_takes_no_maps_of_its_own_size() -> None:
    """Of 8.5 megapixels they took 2 GB."""
    a, b = photos(1, 2000, 1800), photos(1, 2000, 1800, seed=1)
    for measure in (ssim, multiscale_dssim):
        with Largest() as largest:
            measure(a, b)
        # Three planes of a strip, or the photo's half; never one of its planes more than once.
        assert largest.values <= a.numel(), measure.__name__
