"""LowKey (Cherepanova et al., ICLR 2021): untargeted, by sign gradient ascent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View


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
) -> torch.Tensor:
    """Push embeddings away from the clean ones, of the raw and of the blurred photo, by sign gradient ascent.

    Maximises for each photo, with f_i an extractor's L2-normalised embedding and G a Gaussian blur::

        1/(2n) sum_i mean_d [ (f_i(x') - f_i(x))^2 + (f_i(G(x')) - f_i(x))^2 ] / |f_i(x)| - w P(x, x')

    The anchor f_i(x) is that of the clean photo, unblurred, for both members. There is no bound on the
    change but the number of steps: start_noise + steps * step_size, 0.13 (33/255) by default.

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
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from facetools.attacks.common import Grey, noise_like

    with torch.no_grad():
        anchors = [F.normalize(f) for f in view.embed(photos)]  # n x [B, D]
    grey = Grey(photos)
    cloaked = photos + grey.level(noise_like(photos, seeds) * start_noise)
    for _ in range(steps):
        cloaked = cloaked.detach().requires_grad_(True)
        both = torch.cat([cloaked, view.smooth(cloaked, smooth_size_px, smooth_sigma_px)])
        moved = torch.stack(
            [
                (F.normalize(f).view(2, *v.shape) - v).square().mean(-1) / v.norm(dim=-1)  # [2, B]
                for f, v in zip(view.features(both), anchors, strict=True)
            ]
        ).mean((0, 1))
        gain = moved - perceptual_weight * view.perceptual(cloaked)  # [B]
        (slope,) = torch.autograd.grad(gain.sum(), cloaked)
        cloaked = cloaked.detach() + step_size * grey.slope(slope).sign()
        if view.enough(grey.level(cloaked.clamp(0, 1))):
            break
    return grey.level(cloaked.detach().clamp(0, 1))
