"""How different two photos look: SSIM, PSNR, and the perceptual distance that attacks trade against."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SUBSTITUTE = "multiscale-dssim"
"""Name of the perceptual distance that stands in for LPIPS, as records give it."""


@lru_cache(64)
def gaussian_kernel(size: int, sigma: float) -> torch.Tensor:
    """Give a normalised 1-D Gaussian, float32 [size]."""
    import torch

    # What is made in inference mode can never be part of a gradient, and this is kept for both.
    with torch.inference_mode(False):
        steps = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        weights = torch.exp(-(steps**2) / (2 * sigma**2))
        return (weights / weights.sum()).float()


def smooth(photos: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
    """Blur each channel with a Gaussian, edges reflected (repeated where a side is too short to reflect).

    Parameters
    ----------
    photos
        float [B, C, H, W].
    size
        Odd side of the kernel, pixels.
    sigma
        Standard deviation, pixels.
    """
    import torch.nn.functional as F  # noqa: N812

    half = size // 2
    mode = "reflect" if min(photos.shape[-2:]) > half else "replicate"
    return _blur_inside(F.pad(photos, (half, half, half, half), mode=mode), size, sigma)


_LARGEST_BAND = 384
"""Longest side that is blurred by matrix products, which cost its square a pixel row."""


@lru_cache(64)
def _band(length: int, size: int, sigma: float) -> torch.Tensor:
    """Give the matrix that blurs a line without padding, float32 [length - size + 1, length]."""
    import torch

    kernel = gaussian_kernel(size, sigma)
    with torch.inference_mode(False):
        rows = torch.zeros(length - size + 1, length)
        for row in range(len(rows)):
            rows[row, row : row + size] = kernel
        return rows


def _blur_inside(photos: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
    """Blur without padding: the result is ``size - 1`` smaller.

    For a face's region two matrix products are several times as fast on a CPU as depthwise convolutions,
    forward and backward, though they compute more.
    """
    import torch.nn.functional as F  # noqa: N812

    height, width = photos.shape[-2:]
    if max(height, width) <= _LARGEST_BAND:
        return _band(height, size, sigma).to(photos) @ photos @ _band(width, size, sigma).to(photos).T
    channels = photos.shape[1]
    kernel = gaussian_kernel(size, sigma).to(photos)
    rows = kernel.view(1, 1, size, 1).expand(channels, 1, size, 1)
    columns = kernel.view(1, 1, 1, size).expand(channels, 1, 1, size)
    return F.conv2d(F.conv2d(photos, rows, groups=channels), columns, groups=channels)


def ssim(a: torch.Tensor, b: torch.Tensor, *, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window, K1 = 0.01, K2 = 0.03, no padding.

    Parameters
    ----------
    a, b
        float [B, C, H, W] in [0, 1]. Sides shorter than the window shrink the window.

    Returns
    -------
    float [B]
        Mean over channels and positions, 1 for equal photos.
    """
    import torch

    window = min(window, *a.shape[-2:])
    window -= 1 - window % 2
    # One call for the five moments: the blur is the whole cost.
    moments = _blur_inside(torch.cat([a, b, a * a, b * b, a * b], 1), window, sigma)
    mean_a, mean_b, aa, bb, ab = moments.chunk(5, 1)
    c1, c2 = 0.01**2, 0.03**2
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    quality = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return quality.mean((1, 2, 3))


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of float [B, C, H, W] in [0, 1]; infinity for equal photos."""
    import torch

    return -10 * torch.log10((a - b).square().mean((1, 2, 3)))


def multiscale_dssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Perceptual distance in [0, 1], float [B]: DSSIM = (1 - SSIM) / 2, mean over full, half and quarter size.

    Stands in for LPIPS (Zhang et al. 2018) where AlexNet's weights are not at hand: like it, it is blind
    to small shifts of tone and punishes texture that the photo does not have.
    """
    import torch.nn.functional as F  # noqa: N812

    total = (1 - ssim(a, b)) / 2
    scales = 1
    for _ in range(2):
        if min(a.shape[-2:]) < 22:
            break
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total = total + (1 - ssim(a, b)) / 2
        scales += 1
    return total / scales
