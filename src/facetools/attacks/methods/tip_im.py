"""TIP-IM (Yang et al., ICCV 2021): targeted, towards the best of several other people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View

TARGETS = 10

MODES: Mapping[str, Mapping[str, float]] = {
    "low": {"epsilon": 6 / 255},
    "mid": {"epsilon": 8 / 255},
    "high": {"epsilon": 12 / 255},
}
"""Without a mode it is ``high``. Records of that have always had no mode, so none of these is the default."""

_BANDWIDTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 5, 10, 15, 20, 25, 30, 35, 100, 1e3, 1e4, 1e5, 1e6)
"""Of the kernels of the naturalness term, in squared 8-bit values."""


def tip_im(
    view: View,
    photos: torch.Tensor,
    *,
    seeds: Sequence[int],
    epsilon: float = 12 / 255,
    steps: int = 100,
    momentum: float = 1.0,
    reach: float = 1.5,
    naturalness: float = 0.0,
    sign_steps: int = 0,
) -> torch.Tensor:
    """Pull embeddings from the clean one to whichever of several other people gains most at each step.

    Each step makes one candidate for each target t: from the iterate x', against the slope of ::

        mean_d (f(x') - t)^2 - mean_d (f(x') - f(x))^2 + g MMD(x, x')

    with f an extractor's L2-normalised embedding, slopes divided by their mean size and added up with
    momentum. The candidate with the largest gain, max_u |f(c) - f(x)| - |f(c) - u| over all targets u, is the
    next iterate. Of several extractors means are taken.

    Parameters
    ----------
    view
        Aligns and embeds, and knows the targets.
    photos
        float32 [B, 3, H, W] in [0, 1]; photos of the batch do not influence each other.
    seeds
        One a photo; unused: nothing here is random.
    epsilon
        Bound on the change of a channel (l-infinity), in units of the full range.
    steps
        Gradient steps.
    momentum
        Decay of the accumulated gradients.
    reach
        Length of all steps together, in units of epsilon: a step is reach * epsilon / steps.
    naturalness
        g, the weight of the MMD of the two photos as single samples, with a sum of Gaussian kernels.
    sign_steps
        0: gradient steps whose root mean square over the pixels with a gradient is the step's size; 1: sign steps.

    Returns
    -------
    float32 [B, 3, H, W]
        In [0, 1] and within epsilon.

    Notes
    -----
    Source: arXiv 2003.06814 and the code released with it, whose defaults are kept: no naturalness term, steps
    along the slope. The largest of the gains it offers is its default too; the logarithm that it takes does not
    change which candidate wins. Three things differ from it. It sees each iterate through a random
    affine map; here random views are the user's choice. Its embeddings are not normalised. And a photo
    with equal channels (grey) keeps them equal.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from facetools.attacks.common import Grey, each

    del seeds
    with torch.no_grad():
        anchors = [F.normalize(f) for f in view.embed(photos)]
    targets = [F.normalize(t, dim=2) for t in view.targets]  # n x [B, K, D]
    grey = Grey(photos)
    low, high = (photos - epsilon).clamp(min=0), (photos + epsilon).clamp(max=1)
    size = reach * epsilon / max(1, steps)
    cloaked, total = photos.clone(), torch.zeros_like(photos)
    for _ in range(steps):
        cloaked = cloaked.requires_grad_(True)
        features = [F.normalize(f) for f in view.features(cloaked)]
        unnatural = naturalness * _mmd(cloaked, photos) if naturalness else photos.new_zeros(len(photos))
        winner, winning = cloaked.detach(), total
        largest = photos.new_full((len(photos),), -torch.inf)
        last = targets[0].shape[1] - 1
        for number in range(last + 1):
            members = zip(features, targets, anchors, strict=True)
            apart = [(f - t[:, number]).square().mean(1) - (f - v).square().mean(1) for f, t, v in members]
            loss = torch.stack(apart).mean(0) + unnatural
            (slope,) = torch.autograd.grad(loss.sum(), cloaked, retain_graph=number < last)
            slope = grey.slope(slope)
            added = momentum * total + slope / each(slope.abs().mean((1, 2, 3)).clamp(min=1e-30))
            with torch.no_grad():
                candidate = (cloaked - size * _direction(added, sign_steps)).clamp(low, high)
                gain = _gain(view, candidate, anchors, targets) if last else torch.zeros_like(largest)
            better = gain > largest
            largest = torch.where(better, gain, largest)
            winner = torch.where(each(better), candidate, winner)
            winning = torch.where(each(better), added, winning)
        cloaked, total = winner, winning
        if view.enough(grey.level(cloaked)):
            break
    return grey.level(cloaked.detach())


def _direction(slopes: torch.Tensor, signs: int) -> torch.Tensor:
    """Return the direction of a step, [B, 3, H, W]: of root mean square 1 over the pixels with a gradient, or signs."""
    from facetools.attacks.common import each

    if signs:
        return slopes.sign()
    # Pixels that no extractor sees, and what pads a photo, must not lengthen the step.
    seen = (slopes != 0).sum((1, 2, 3)).clamp(min=1)
    return slopes / each((slopes.square().sum((1, 2, 3)) / seen).sqrt().clamp(min=1e-30))


def _gain(
    view: View, photos: torch.Tensor, anchors: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return by how much photos are nearer to the nearest target than to the clean photo, [B]."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    gains = []
    for feature, anchor, others in zip(view.embed(photos), anchors, targets, strict=True):
        unit = F.normalize(feature)
        gains.append((unit - anchor).norm(dim=1)[:, None] - (unit[:, None] - others).norm(dim=2))  # [B, K]
    return torch.stack(gains).mean(0).amax(1)


def _mmd(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the squared maximum mean discrepancy of each photo of two batches in [0, 1], [B]."""
    apart = ((a - b) * 255).square().sum((1, 2, 3))
    widths = apart.new_tensor(_BANDWIDTHS)
    return 2 * (1 - (-apart[:, None] / (2 * widths)).exp()).sum(1)
