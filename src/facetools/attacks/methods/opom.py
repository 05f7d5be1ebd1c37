"""OPOM, one person one mask (Zhong and Deng, TPAMI 2022): a universal perturbation for each person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from facetools.attacks.base import MaskView

PER_PERSON = True

MODES: Mapping[str, Mapping[str, float]] = {
    "fi-uap": {"subspace": 0},
    "class-center": {"subspace": 1},
    "convex-hull": {"subspace": 2},
    "low": {"epsilon": 4 / 255},
    "mid": {"epsilon": 6 / 255},
    "high": {"epsilon": 8 / 255},
}
"""Three kinds as published, all at full strength, and three strengths of the last kind; ``high`` is that itself."""

DEFAULT_MODE = "convex-hull"

OLDER_NAMES: Mapping[str, str] = {"step_size": "alpha"}


def opom(
    views: Sequence[MaskView],
    mask_shape: tuple[int, int, int],
    *,
    seeds: Sequence[int],
    epsilon: float = 8 / 255,
    steps: int = 16,
    alpha: float = 1 / 255,
    subspace: int = 2,
    center_steps: int = 5,
    photos_per_step: int = 0,
) -> torch.Tensor:
    """Make one mask that pushes all photos of a person away from the subspace that their embeddings span.

    Maximises over the mask m by sign steps, with f_i an extractor's L2-normalised embedding and x_j the photos::

        sum_i mean_j mean_d (f_i(x_j + m) - h_ij)^2

    where h_ij is, recomputed at each step, the point nearest to f_i(x_j + m) in the convex hull of all f_i(x_k).

    Parameters
    ----------
    views
        One for each photo of the person. They are worked on one after the other: memory does not grow.
    mask_shape
        (3, S, S).
    seeds
        One a photo, for its random start.
    epsilon
        Bound on the mask (l-infinity), in units of the full range.
    steps
        Sign steps.
    alpha
        Size of each step, in units of the full range.
    subspace
        What h is: 0, the photo's own clean embedding (FI-UAP); 1, the mean of all; 2, in the hull of all.
    center_steps
        For 2, this many steps push from the mean first: within the hull there is no way out.
    photos_per_step
        This many photos take part in a step, by turns; 0: all.

    Returns
    -------
    float32 [3, S, S]
        On the CPU, within epsilon of 0. A person whose photos are all grey gets a grey mask.

    Notes
    -----
    Source: the paper and the code released with it, whose defaults are kept, without what it adds for transfer
    (momentum, and dropout inside the extractor). The released code lays a mask on aligned crops; here it is
    laid on the photo where the face is. It starts each photo with noise of its own and goes on from the
    mean over photos; so does this.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from facetools.attacks.common import Grey, noise_like

    with torch.no_grad():
        clean = [view.lay(torch.zeros(mask_shape)) for view in views]
        anchors = [[F.normalize(f) for f in view.embed(photo)] for view, photo in zip(views, clean, strict=True)]
    # All photos as one, on the CPU, where the mask is made.
    grey = Grey(torch.cat([photo.flatten(2).cpu() for photo in clean], 2)[..., None])
    members = [torch.cat([each[number] for each in anchors]) for number in range(len(anchors[0]))]  # n x [J, D]
    starts = grey.level(noise_like(torch.empty(len(views), *mask_shape), seeds)) * epsilon
    mask = starts.mean(0)
    count = min(photos_per_step or len(views), len(views))
    for step in range(steps):
        total = torch.zeros(mask_shape)
        for turn in range(count):
            number = (step * count + turn) % len(views)
            trial = (starts[number] if step == 0 else mask).clone().requires_grad_(True)
            view = views[number]
            loss = torch.zeros(())
            for feature, own, all_own in zip(view.features(view.lay(trial)), anchors[number], members, strict=True):
                unit = F.normalize(feature)
                centered = subspace == 1 or (subspace > 1 and step < center_steps)
                away = own if subspace == 0 else all_own.mean(0) if centered else nearest_in_hull(unit, all_own)
                loss = loss + (unit - away).square().mean().cpu()
            (slope,) = torch.autograd.grad(loss, trial)
            total += slope.cpu()
        mask = (mask + alpha * grey.slope(total[None])[0].sign()).clamp(-epsilon, epsilon)
        if all(view.enough(view.lay(grey.level(mask[None])[0])) for view in views):
            break
    return grey.level(mask[None])[0]


def nearest_in_hull(points: torch.Tensor, corners: torch.Tensor, *, rounds: int = 200) -> torch.Tensor:
    """Project float [B, D] onto the convex hull of float [J, D]; not differentiable.

    Accelerated projected gradient (Beck and Teboulle 2009) on the weights of the corners, in float64.
    """
    import numpy as np
    import torch

    own, others = (values.detach().cpu().double().numpy() for values in (corners, points))
    gram, pull = own @ own.T, others @ own.T  # [J, J], [B, J]
    size = 1 / max(float(np.linalg.eigvalsh(gram)[-1]), 1e-12)
    weights = ahead = np.full_like(pull, 1 / len(own))
    speed = 1.0
    for _ in range(rounds):
        stepped = _onto_simplex(ahead - size * (ahead @ gram - pull))
        faster = (1 + np.sqrt(1 + 4 * speed**2)) / 2
        ahead = stepped + (speed - 1) / faster * (stepped - weights)
        weights, speed = stepped, faster
    return torch.from_numpy(weights @ own).to(points)


def _onto_simplex(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Project [B, J] to weights that are not negative and sum to 1 (Duchi et al. 2008)."""
    import numpy as np

    falling = -np.sort(-rows, axis=1)
    excess = falling.cumsum(1) - 1
    counts = np.arange(1, rows.shape[1] + 1)
    last = (falling * counts > excess).sum(1)
    shift = excess[np.arange(len(rows)), last - 1] / last
    projected: npt.NDArray[np.float64] = np.maximum(rows - shift[:, None], 0)
    return projected
