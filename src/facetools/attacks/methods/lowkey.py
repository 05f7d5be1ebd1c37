"""LowKey (Cherepanova et al., ICLR 2021): untargeted, by sign gradient ascent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View


MODES: Mapping[str, Mapping[str, Any]] = {
    "low": {"perceptual_weight": 0.2},
    "mid": {"perceptual_weight": 0.1},
    "high": {"perceptual_weight": 0.05},
    "fast": {"perceptual_weight": 0.05, "steps": 25, "step_size": 0.005, "falling": 1},
}
"""None is the default; ``high`` is the same. ``fast`` moves faces as far as ``high`` in half the time."""

UNRECORDED: Mapping[str, Any] = {"falling": 0}

_LARGE_STEP = 3.0
"""Longest step of a large face, in units of the step size."""

_LARGE_SLOPE = 2.0
"""From a slope of this many times the mean on, a step is the longest."""

_TONE_WEIGHT, _TONE_SIGMA_PX = 3.0, 4.0
"""Of the term that keeps the tone of a large face, and of the blur that leaves of a change what is broad."""


def lowkey(
    view: View,
    photos: torch.Tensor,
    *,
    seeds: Sequence[int],
    steps: int = 50,
    step_size: float = 0.0025,
    start_noise: float = 0.005,
    perceptual_weight: float = 0.05,
    smooth_size_px: int = 7,
    smooth_sigma_px: float = 3.0,
    large_brightness: int = 1,
    falling: int = 0,
) -> torch.Tensor:
    """Push embeddings away from the clean ones, of the raw and of the blurred photo, by sign gradient ascent.

    Maximises for each photo, with f_i an extractor's L2-normalised embedding and G a Gaussian blur::

        1/(2n) sum_i mean_d [ (f_i(x') - f_i(x))^2 + (f_i(G(x')) - f_i(x))^2 ] / |f_i(x)| - w P(x, x')

    The anchor f_i(x) is that of the clean photo, unblurred, for both members. There is no bound on the
    change but the number of steps: start_noise + steps * step_size, 0.13 (33/255) by default.

    With ``large_brightness`` faces larger than their chips get another change, see Notes: of brightness alone, by steps
    that follow the slope and are up to ``_LARGE_STEP`` times as long, against a further term for broad stains.

    Parameters
    ----------
    view
        Aligns and embeds.
    photos
        float32 [B, 3, H, W] in [0, 1]; photos of the batch do not influence each other.
    seeds
        One a photo, for the random start.
    steps
        Sign steps.
    step_size
        Size of each, in units of the full range; not called alpha, as elsewhere, because the paper's alpha is w.
    start_noise
        Amplitude of the uniform noise added to the photo at the start.
    perceptual_weight
        w, the paper's alpha; P is LPIPS in the paper.
    smooth_size_px, smooth_sigma_px
        G: side of the kernel and standard deviation, in pixels of ``photos``; those of a large face have been
        reduced.
    large_brightness
        1: of faces larger than their chips the brightness alone is changed, see Notes; 0: sign steps in each channel,
        as in the paper.
    falling
        1: steps fall evenly, from twice ``step_size`` to nothing; 0: all are equal, as in the paper.

    Returns
    -------
    float32 [B, 3, H, W]
        In [0, 1]; clamped at the end only, as the released code does.

    Notes
    -----
    Source: arXiv 2101.07922 and the code released with it. The paper sums squared distances over
    dimensions; the released code takes their mean and divides by the norm, not its square: the released code
    is followed here. Two things differ from it. Its extractors add the embedding of the mirrored face before
    they normalise; here an extractor's embedding is what its users compare, and dlib's are not mirrored. And
    the mean over an embedding's 128 dimensions instead of 512 weighs distance four times as much against P.
    A photo with equal channels (grey) keeps them equal.

    Why large faces are treated apart: sign steps move each channel of each pixel equally far, however little it
    matters to the embedding, and P sees texture, but no tint. The result is coloured patches of some ten pixels of a
    chip. In a photo of that size they pass for noise; enlarged to a face of 500 pixels they are stains of 50. Where
    colour is left out and steps follow the slope, embeddings move about as far with a third of the CIELAB difference.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from facetools.attacks.common import Grey, each, noise_like

    with torch.no_grad():
        anchors = [F.normalize(f) for f in view.embed(photos)]  # n x [B, D]
    grey = Grey(photos)
    noise = grey.level(noise_like(photos, seeds) * start_noise)
    large = torch.tensor([bool(large_brightness) and reduced for reduced in view.reduced], device=photos.device)  # [B]
    any_large = bool(large.any())
    cloaked = photos + (torch.where(each(large), noise[:, :1], noise) if any_large else noise)
    for number in range(steps):
        cloaked = cloaked.detach().requires_grad_(True)
        both = torch.cat([cloaked, view.smooth(cloaked, smooth_size_px, smooth_sigma_px)])
        moved = torch.stack(
            [
                (F.normalize(f).view(2, *v.shape) - v).square().mean(-1) / v.norm(dim=-1)  # [2, B]
                for f, v in zip(view.features(both), anchors, strict=True)
            ]
        ).mean((0, 1))
        gain = moved - perceptual_weight * view.perceptual(cloaked)  # [B]
        if any_large:
            gain = gain - _TONE_WEIGHT * large * _tone(view, cloaked - photos)
        (slope,) = torch.autograd.grad(gain.sum(), cloaked)
        step = grey.slope(slope).sign()
        if any_large:
            step = torch.where(each(large), _brightness_step(slope), step)
        size = step_size * (2 - (2 * number + 1) / steps) if falling else step_size
        cloaked = cloaked.detach() + size * step
        if view.enough(grey.level(cloaked.clamp(0, 1))):
            break
    return grey.level(cloaked.detach().clamp(0, 1))


def _tone(view: View, change: torch.Tensor) -> torch.Tensor:
    """Return the mean square of what is broad in a change, [B], of float32 [B, 3, H, W]."""
    blurred = view.smooth(change, 2 * round(3 * _TONE_SIGMA_PX) + 1, _TONE_SIGMA_PX)
    # What pads a photo of a batch is 0 and must not thin out the mean.
    seen = (blurred != 0).sum((1, 2, 3)).clamp(min=1)
    return blurred.square().sum((1, 2, 3)) / seen


def _brightness_step(slope: torch.Tensor) -> torch.Tensor:
    """Return a step along the slope, equal in all channels and ``_LARGE_STEP`` at most, of [B, 3, H, W]."""
    common = slope.mean(1, keepdim=True)
    # What pads a photo has no slope.
    seen = (common != 0).sum((1, 2, 3), keepdim=True).clamp(min=1)
    usual = common.abs().sum((1, 2, 3), keepdim=True) / seen
    return _LARGE_STEP * (common / (_LARGE_SLOPE * usual).clamp(min=1e-30)).clamp(-1, 1).expand_as(slope)
