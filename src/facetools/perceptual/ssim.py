"""SSIM, PSNR and multi-scale DSSIM, differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from facetools.perceptual.blur import gaussian_blur

SUBSTITUTE = "multiscale-dssim"
"""Name of the substitute for LPIPS in records."""

LARGEST_WHOLE = 1_000_000
"""Pixels up to which photos are compared at once where no gradient is wanted; larger ones strip by strip."""

WINDOW_PX = 11
"""Side of SSIM's window."""

_SIGMA_PX = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SCALES = 3


def _halved(photos: Tensor) -> Tensor:
    """Average 2x2 pixels, an odd last line left out; on a CPU twice as fast as ``avg_pool2d``, forward and back."""
    height, width = (side // 2 * 2 for side in photos.shape[-2:])
    rows = photos[..., 0:height:2, :width] + photos[..., 1:height:2, :width]
    return (rows[..., 0::2] + rows[..., 1::2]) * 0.25


def _window_for(shorter: int) -> int:
    """Return the side of the window for a photo's shorter side: odd, ``WINDOW_PX`` at most."""
    window = min(WINDOW_PX, shorter)
    return window - 1 + window % 2


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return SSIM, structural similarity (Wang et al. 2004): 11x11 Gaussian window, K1 = 0.01, K2 = 0.03, no padding.

    Parameters
    ----------
    a, b
        float [B, C, H, W] in [0, 1]. Sides shorter than the window shrink the window. Gradients go to ``a``.

    Returns
    -------
    float [B]
        Mean over channels and positions, 1 for equal photos.
    """
    return _ssim_in_strips(a, b) if _is_too_large(a) else Reference(b).ssim(a)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return PSNR in dB, float [B], of float [B, C, H, W] in [0, 1]; infinity for equal photos."""
    decibels: Tensor = -10 * torch.log10((a - b).square_().mean((1, 2, 3)))
    return decibels


def multiscale_dssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean DSSIM = (1 - SSIM) / 2 over full, half and quarter size, float [B] in [0, 1].

    The substitute for LPIPS (Zhang et al. 2018) where AlexNet's weights are not available: like it, it is blind
    to small shifts of tone and punishes texture that the photo does not have. Gradients go to ``a``.
    """
    if not _is_too_large(a):
        return Reference(b).multiscale_dssim(a)
    scales, total = _scales_of((a.shape[-2], a.shape[-1])), a.new_zeros(len(a))
    for scale in range(scales):
        if scale:
            a, b = _halved(a), _halved(b)
        total = total + (1 - ssim(a, b)) / 2 / scales
    return total


def _is_too_large(photos: Tensor) -> bool:
    """Return whether photos are compared strip by strip: whole, they would take some 200 bytes a pixel."""
    wants_gradient = torch.is_grad_enabled() and photos.requires_grad
    return photos.shape[-2:].numel() > LARGEST_WHOLE and not wants_gradient


def _ssim_in_strips(a: Tensor, b: Tensor) -> Tensor:
    """Return SSIM as the mean over strips of windows, each weighted by its rows of windows."""
    height, width = a.shape[-2:]
    overlap = _window_for(min(height, width)) - 1
    windows, rows = height - overlap, max(1, LARGEST_WHOLE // 2 // width)
    total = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    for start in range(0, windows, rows):
        count = min(rows, windows - start)
        strip = slice(start, start + count + overlap)
        total += count * Reference(b[..., strip, :]).ssim(a[..., strip, :])
    return (total / windows).to(a.dtype)


@dataclass(frozen=True, slots=True)
class _Level:
    """Terms of SSIM that depend on B clean photos alone, at one scale.

    Attributes
    ----------
    clean
        [B, C, H, W].
    window
        Side of the window.
    mean, square
        Blurred photos and their square, [B, C, h, w].
    spread
        Blurred squares less ``square``, plus the constant that keeps the quotient finite.
    weight
        Weight of each window, [B, 1, h, w], with sum 1 over C channels; None: uniform.
    share
        Weight of this scale, [B].
    """

    clean: Tensor
    window: int
    mean: Tensor
    square: Tensor
    spread: Tensor
    weight: Tensor | None
    share: Tensor


def _by_version(photos: Tensor, clean: Tensor) -> Tensor:
    """View [m * B, C, H, W] as [m, B, C, H, W]."""
    return photos.reshape(len(photos) // max(len(clean), 1), *clean.shape[:1], *photos.shape[1:])


class _Ssim(torch.autograd.Function):
    """SSIM to a ``_Level`` with an analytic gradient: three blurs forward, three back, none for the clean."""

    @staticmethod
    def forward(ctx: Any, photos: Tensor, level: _Level) -> Tensor:
        x = _by_version(photos, level.clean)  # [m, B, C, H, W]
        planes = x.new_empty(3, *x.shape)
        planes[0] = x
        torch.mul(x, x, out=planes[1])
        torch.mul(x, level.clean, out=planes[2])
        blurred = gaussian_blur(planes.flatten(0, 3), level.window, _SIGMA_PX, 0)
        mean, squares, products = blurred.view(3, *x.shape[:-2], *blurred.shape[-2:])
        both, own = mean * level.mean, mean * mean
        # Equation 13: (2 u v + C1)(2 cov + C2) / ((u^2 + v^2 + C1)(var + var + C2)).
        a1, a2 = both * 2 + _C1, products.sub_(both).mul_(2).add_(_C2)
        b1, b2 = own + level.square + _C1, squares.sub_(own).add_(level.spread)
        below = b1 * b2
        quality = a1 * a2 / below  # [m, B, C, h, w]
        ctx.level = level
        ctx.save_for_backward(photos, mean, a1, a2, b1, b2, below, quality)
        if level.weight is None:
            value: Tensor = quality.mean((2, 3, 4)).flatten()
        else:
            value = (quality * level.weight).sum((2, 3, 4)).flatten()
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        level: _Level = ctx.level
        photos, mean, a1, a2, b1, b2, below, quality = ctx.saved_tensors
        x = _by_version(photos, level.clean)
        each = slope.reshape(*x.shape[:2], 1, 1, 1)
        each = each / quality.shape[2:].numel() if level.weight is None else each * level.weight
        # Derivatives of quality by the blurred photo, its blurred square and its blurred product with the clean one.
        by = x.new_empty(3, *quality.shape)
        by_mean, by_square, by_product = by
        torch.div(each, below, out=by_product)
        torch.sub(a2, a1, out=by_mean).mul_(by_product).mul_(level.mean)
        by_product.mul_(a1).mul_(2)
        torch.div(quality, b2, out=by_square).mul_(each).neg_()
        pull = (quality / b1).mul_(each).add_(by_square)
        by_mean.addcmul_(mean, pull, value=-1).mul_(2)
        back = gaussian_blur(by.flatten(0, 3), level.window, _SIGMA_PX, level.window - 1).view(3, *x.shape)
        out = back[0].addcmul_(back[1], x, value=2).addcmul_(back[2], level.clean)
        return out.flatten(0, 1), None


class Reference:
    """Distances to one batch of clean photos, whose terms are computed once.

    Every method takes ``photos``, float [m * B, C, H, W] in [0, 1]: m versions of the batch one after the other,
    as ``torch.cat`` stacks them. Gradients go to them, never to the clean photos.

    Parameters
    ----------
    clean
        float [B, C, H, W] in [0, 1].
    sizes
        Height and width of each photo that lies in the upper left of ``clean``; the rest is padding, of any finite
        values, and does not count: only windows that lie inside the photo do. None: there is no padding.
    """

    def __init__(self, clean: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> None:
        self._clean = clean.detach()
        self._padded = sizes is not None and any(tuple(size) != tuple(clean.shape[-2:]) for size in sizes)
        self._sizes = list(sizes) if sizes is not None else [(clean.shape[-2], clean.shape[-1])] * len(clean)
        windows = [_window_for(min(size)) for size in self._sizes]
        # Photos too small for the common window are rare: each window's photos are a batch of their own.
        groups = [[n for n, window in enumerate(windows) if window == each] for each in sorted(set(windows))]
        self._groups: list[tuple[list[int], Reference]] = []
        if len(groups) > 1:
            self._groups = [(own, Reference(self._clean[own], [self._sizes[n] for n in own])) for own in groups]
        self._levels: list[_Level] = []
        self._window = windows[0] if windows else 1

    def ssim(self, photos: Tensor) -> Tensor:
        """Return SSIM, float [m * B]: as ``facetools.perceptual.ssim.ssim`` of the photos alone."""
        return self._each(photos, "ssim") if self._groups else self._at(0, photos)

    def dssim(self, photos: Tensor) -> Tensor:
        """Return DSSIM = (1 - SSIM) / 2, 0 for equal photos, float [m * B]."""
        return (1 - self.ssim(photos)) / 2

    def multiscale_dssim(self, photos: Tensor) -> Tensor:
        """Return the substitute for LPIPS, float [m * B]: as ``facetools.perceptual.ssim.multiscale_dssim``."""
        if self._groups:
            return self._each(photos, "multiscale_dssim")
        times = len(photos) // max(len(self._clean), 1)
        total = photos.new_zeros(len(photos))
        for scale in range(max(map(_scales_of, self._sizes), default=1)):
            if scale:
                photos = _halved(photos)
            # Before the shares: a photo without this scale has the share 0.
            apart = (1 - self._at(scale, photos)) / 2
            total = total + apart * self._levels[scale].share.repeat(times)
        return total

    def __call__(self, photos: Tensor) -> Tensor:
        """Return ``multiscale_dssim``."""
        return self.multiscale_dssim(photos)

    def _each(self, photos: Tensor, measure: str) -> Tensor:
        versions = _by_version(photos, self._clean)
        out = photos.new_zeros(versions.shape[:2])
        for own, reference in self._groups:
            out[:, own] = getattr(reference, measure)(versions[:, own].flatten(0, 1)).view(len(versions), -1)
        return out.flatten()

    def _at(self, scale: int, photos: Tensor) -> Tensor:
        while len(self._levels) <= scale:
            # In inference mode too they must serve gradients later.
            with torch.inference_mode(False), torch.no_grad():
                self._levels.append(self._prepare(len(self._levels)))
        value: Tensor = _Ssim.apply(photos, self._levels[scale])
        return value

    def _prepare(self, scale: int) -> _Level:
        # Cloned where it was made in inference mode, which no gradient may save.
        clean = _halved(self._levels[-1].clean) if scale else self._clean.clone()
        window = self._window if scale == 0 else WINDOW_PX
        planes = torch.cat([clean, clean * clean]).flatten(0, 1)
        blurred = gaussian_blur(planes, window, _SIGMA_PX, 0)
        mean, squares = blurred.view(2, *clean.shape[:2], *blurred.shape[-2:])
        counts = [_scales_of(size) for size in self._sizes]
        share = [1 / count if scale < count else 0.0 for count in counts]
        weight = None
        if self._padded:
            weight = torch.zeros(len(clean), 1, *mean.shape[-2:])
            for own, (height, width) in zip(weight, self._sizes, strict=True):
                high, wide = (max(1, (side >> scale) - window + 1) for side in (height, width))
                own[:, :high, :wide] = 1 / (clean.shape[1] * high * wide)
            weight = weight.to(clean)
        square = mean * mean
        return _Level(clean, window, mean, square, squares - square + _C2, weight, clean.new_tensor(share))


def _scales_of(size: tuple[int, int]) -> int:
    """Return the number of scales at which a photo is compared: no side may get shorter than the window."""
    return next((n for n in range(1, _SCALES) if min(size) >> (n - 1) < 2 * WINDOW_PX), _SCALES)


class Substitute:
    """The substitute for LPIPS; the same interface as ``facetools.perceptual.lpips.Lpips``.

    Attributes
    ----------
    name
        As records give it.
    sha256
        None: it has no weights.
    """

    name = SUBSTITUTE
    sha256: str | None = None

    def to(self, clean: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Reference:
        """Prepare for distances to one batch of clean photos, float [B, 3, H, W] in [0, 1]; the rest is padding."""
        return Reference(clean, sizes)

    def distance(self, photos: Tensor, clean: Tensor) -> Tensor:
        """Return the distance, float [B], of float [B, 3, H, W] in [0, 1]."""
        return multiscale_dssim(photos, clean)
