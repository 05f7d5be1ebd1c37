"""Fawkes v1.0 (Shan et al., USENIX Security 2020; release 1.0.4): untargeted, away from the clean embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View

MODES: Mapping[str, Mapping[str, Any]] = {
    "low": {"dssim_budget": 0.004, "steps": 40, "learning_rate": 25.0},
    "mid": {"dssim_budget": 0.012, "steps": 75, "learning_rate": 20.0},
    "high": {"dssim_budget": 0.017, "steps": 150, "learning_rate": 15.0},
}
DEFAULT_MODE = "low"

OLDER_NAMES: Mapping[str, str] = {"bound": "epsilon"}

LARGEST_WEIGHT = 129.0
"""A weight of the distance beyond this, or below its inverse, starts again from 1."""

RESCUE_BELOW, RESCUE_DSSIM = 0.3, 0.015
"""Where the best iterate has moved less, the last one is taken if it has moved further and its DSSIM is below."""


def fawkes_v1_0(
    view: View,
    photos: torch.Tensor,
    *,
    seeds: Sequence[int],
    dssim_budget: float = 0.004,
    steps: int = 40,
    learning_rate: float = 25.0,
    penalty: float = 1e6,
    epsilon: float = 15 / 255,
    start_noise: float = 1e-4,
    kick: float = 0.01,
) -> torch.Tensor:
    """Push embeddings away from the clean ones within a budget of structural dissimilarity.

    Minimises for each photo, over a modifier m in tanh space, by Adadelta::

        c max(DSSIM(x, x') - rho, 0)^2 - w sum_i |f_i(x') - f_i(x)|^2 / |f_i(x)|^2

    with f_i an extractor's L2-normalised embedding, x' = (tanh(m + arctanh((x - 1/2) s)) / s + 1/2), s = 2 - 1e-6,
    and |x' - x| <= epsilon. The weight w adapts: it doubles while DSSIM stays under 0.9 rho, halves while it stays
    over 1.1 rho, and starts from 1 when DSSIM changes sides or lies between. The result is the iterate that is
    farthest away with DSSIM of 1.1 rho or less; if that is nearer than 0.3, the last iterate, if it is farther and its
    DSSIM under 0.015; the clean photo where there is neither.

    Parameters
    ----------
    view
        Aligns, embeds and measures DSSIM.
    photos
        float32 [B, 3, H, W] in [0, 1]; photos of the batch do not influence each other.
    seeds
        One a photo, for the random start.
    dssim_budget
        rho, the bound on DSSIM, (1 - SSIM) / 2.
    steps
        Iterates evaluated, including the start.
    learning_rate
        Of Adadelta as in Keras (decay 0.95, epsilon 1e-7).
    penalty
        c, the weight of the penalty on DSSIM above rho.
    epsilon
        Bound on the change of a channel (l-infinity), in units of the full range.
    start_noise
        The modifier starts as uniform noise of this size.
    kick
        Size of one sign step of the modifier after the first step.

    Returns
    -------
    float32 [B, 3, H, W]
        In [0, 1].

    Notes
    -----
    Source: arXiv 2002.08327 and the code released as 1.0.4. The paper pulls to a target; the released code that its
    command line reaches does not, and is followed here. Where the released code works on a 112x112 crop without
    alignment, the photo's own pixels are changed here, through each extractor's alignment.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from facetools.attacks.common import Adadelta, Grey, TanhSpace, each, noise_like

    grey, space = Grey(photos), TanhSpace(photos)
    with torch.no_grad():
        anchors = [F.normalize(f) for f in view.embed(photos)]  # n x [B, D]
    modifier = grey.level(noise_like(photos, seeds)) * start_noise
    optimizer = Adadelta(modifier, epsilon=1e-7)
    weight, side = photos.new_ones(len(photos)), photos.new_full((len(photos),), -1)
    best, best_distance = photos.clone(), photos.new_zeros(len(photos))
    for step in range(steps):
        modifier = modifier.detach().requires_grad_(True)
        changed = space(modifier)
        cloaked = (photos + (changed - photos).clamp(-epsilon, epsilon)).clamp(0, 1)
        dssim = view.dssim(cloaked)  # [B]
        distance = torch.stack(
            [(F.normalize(f) - v).square().sum(1) for f, v in zip(view.features(cloaked), anchors, strict=True)]
        ).sum(0)  # [B]
        better = (dssim <= 1.1 * dssim_budget) & (distance > best_distance)
        if step == steps - 1:
            failed = torch.where(better, distance, best_distance) < RESCUE_BELOW
            better = better | (failed & (dssim < RESCUE_DSSIM) & (distance > best_distance))
        best = torch.where(each(better), cloaked, best).detach()
        best_distance = torch.where(better, distance, best_distance).detach()
        if view.enough(grey.level(best)) or step == steps - 1:
            break
        loss = penalty * (dssim - dssim_budget).clamp(min=0).square() - weight * distance
        (slope,) = torch.autograd.grad(loss.sum(), modifier)
        slope = grey.slope(slope)
        modifier = modifier.detach() - learning_rate * optimizer.change(slope)
        if step == 0:
            # The released code puts the sum into a new variable, for which Keras initialises Adadelta again.
            modifier, optimizer = modifier - kick * slope.sign(), Adadelta(modifier, epsilon=1e-7)
        weight, side = adapt(weight, side, dssim.detach() / max(dssim_budget, 1e-12))
    return grey.level(best)


def adapt(weight: torch.Tensor, side: torch.Tensor, relative: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Adapt the weight of the distance after a step.

    Parameters
    ----------
    weight, side
        float [B]: the weights, and where DSSIM was a step ago: -1 under, 0 in, 1 over the band of 0.9 to 1.1 rho.
        Initially it counts as under.
    relative
        float [B], DSSIM in units of rho.

    Returns
    -------
    Both, updated. A weight is 1 inside the band, when DSSIM has come from the other side of it, and after it has
    become larger than 129 or smaller than 1/129.
    """
    import torch

    under = (relative <= 0.9) & (weight <= LARGEST_WEIGHT)
    over = (relative >= 1.1) & (weight >= 1 / LARGEST_WEIGHT)
    one = torch.ones_like(weight)
    adapted = torch.where(under & (side <= 0), weight * 2, torch.where(over & (side >= 0), weight / 2, one))
    return adapted, over.to(side) - under.to(side)
