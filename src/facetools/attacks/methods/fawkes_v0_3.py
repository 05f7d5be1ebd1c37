"""Fawkes v0.3 (Shan et al., USENIX Security 2020; release 0.3): targeted, towards another person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View

MODES: Mapping[str, Mapping[str, Any]] = {
    "min": {"dssim_budget": 0.002, "steps": 20, "learning_rate": 40.0},
    "low": {"dssim_budget": 0.003, "steps": 50, "learning_rate": 35.0},
    "mid": {"dssim_budget": 0.005, "steps": 200, "learning_rate": 20.0},
    "high": {"dssim_budget": 0.008, "steps": 500, "learning_rate": 10.0},
    "ultra": {"dssim_budget": 0.01, "steps": 1000, "learning_rate": 8.0},
}
DEFAULT_MODE = "low"

TARGETS = 1


def fawkes_v0_3(
    view: View,
    photos: torch.Tensor,
    *,
    seeds: Sequence[int],
    dssim_budget: float = 0.003,
    steps: int = 50,
    learning_rate: float = 35.0,
    penalty: float = 1e6,
    tolerance: float = 1.1,
) -> torch.Tensor:
    """Pull embeddings to another person's, and as far beyond, within a budget of structural dissimilarity.

    Minimises for each photo, over a modifier m in tanh space, by Adadelta::

        c max(DSSIM(x, x') - rho, 0)^2 + sum_i |t_i - f_i(x')| / |t_i|,   t_i = f_i(x) + 2 (f_i(target) - f_i(x))

    with f_i an extractor's embedding as it comes, and x' = (tanh(m + arctanh((x - 1/2) s)) / s + 1/2), s = 2 - 1e-6.
    The learning rate falls by a fifth after each third of the steps. The result is the iterate nearest to t among
    those with DSSIM of ``tolerance`` rho or less, the clean photo where there is none.

    Parameters
    ----------
    view
        Aligns, embeds and measures DSSIM; its targets are mean embeddings of one other person each.
    photos
        float32 [B, 3, H, W] in [0, 1]; photos of the batch do not influence each other.
    seeds
        One a photo; unused: only the target is random, and it is drawn before.
    dssim_budget
        rho, the bound on DSSIM, (1 - SSIM) / 2.
    steps
        Optimiser steps.
    learning_rate
        Of Adadelta as in ``tf.train`` (decay 0.95, epsilon 1e-8).
    penalty
        c, the weight of the penalty on DSSIM above rho.
    tolerance
        Iterates whose DSSIM exceeds tolerance * rho are rejected. The released code takes any: 1000, say.

    Returns
    -------
    float32 [B, 3, H, W]
        In [0, 1].

    Notes
    -----
    Source: arXiv 2002.08327 and the code released as 0.3, whose command line gives c = 1e6. The released code takes
    f(x) and f(target) as means over a batch, of one photo by default, which is followed here: photos do not influence
    each other. It keeps the iterate nearest to t whatever its DSSIM: on faces of LFW that is within 1.05 rho after the
    steps of ``low`` and ``mid``, and up to 12 rho after the few of ``min``, where faces are scarred; so v1.0's rule is
    the default here, and ``tolerance`` undoes it. It pulls each photo to one photo of the target, here to the person's
    mean embedding. It draws one target for all photos of a run; here photos of a person share theirs.
    """
    import torch

    from facetools.attacks.common import Adadelta, Grey, TanhSpace, each

    del seeds
    grey, space = Grey(photos), TanhSpace(photos)
    with torch.no_grad():
        own = view.embed(photos)
        wanted = [f + 2 * (t[:, 0] - f) for f, t in zip(own, view.targets, strict=True)]  # n x [B, D]
        sizes = [t.norm(dim=1).clamp(min=1e-12) for t in wanted]
    modifier = torch.full_like(photos, 1e-6)
    optimizer = Adadelta(modifier, epsilon=1e-8)
    best, best_distance = photos.clone(), photos.new_full((len(photos),), torch.inf)
    for step in range(steps + 1):
        modifier = modifier.detach().requires_grad_(True)
        cloaked = space(modifier)
        dssim = view.dssim(cloaked)  # [B]
        distance = torch.stack(
            [(t - f).norm(dim=1) / size for f, t, size in zip(view.features(cloaked), wanted, sizes, strict=True)]
        ).sum(0)  # [B]
        if step:
            better = (dssim <= tolerance * dssim_budget) & (distance < best_distance)
            best = torch.where(each(better), cloaked, best).detach()
            best_distance = torch.where(better, distance, best_distance).detach()
            if view.enough(grey.level(best)):
                break
        if step == steps:
            break
        loss = penalty * (dssim - dssim_budget).clamp(min=0).square() + distance
        (slope,) = torch.autograd.grad(loss.sum(), modifier)
        # The first of the three spans is one step longer than the others, as in the released code.
        falls = max(0, step - 1) // max(1, steps // 3)
        modifier = modifier.detach() - learning_rate * 0.8**falls * optimizer.change(grey.slope(slope))
    return grey.level(best)
