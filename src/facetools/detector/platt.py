"""Platt scaling: turn logits into probabilities by a temperature and an offset, and fit these."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature."""


def scores_of(logits: Numbers, temperature: float, offset: float) -> Numbers:
    """Return scores, 0 to 1: the sigmoid of (logits - offset) / temperature."""
    return _sigmoid((logits - offset) / temperature)


def _sigmoid(z: Numbers) -> Numbers:
    # Of large numbers exp would overflow.
    return np.exp(-np.logaddexp(0, -z))


def fit_platt(logits: Numbers, labels: Labels, *, balanced: bool = True) -> tuple[float, float]:
    """Fit the temperature and offset that make scores probabilities.

    Minimises the cross-entropy (Guo et al. 2017, arXiv 1706.04599) over both by L-BFGS. Targets are Platt's (1999), so
    that logits which a threshold separates have a solution.

    Parameters
    ----------
    logits, labels
        float64 [n] and bool [n]; with ``balanced`` both labels must occur.
    balanced
        Both labels weigh the same in all: the score is the probability where half of the faces are cloaked.

    Returns
    -------
    float, float
        The temperature, between 0.05 and 20, and the offset.
    """
    counts = np.array([(~labels).sum(), labels.sum()])
    place = labels.astype(int)
    targets = np.array([1, counts[1] + 1])[place] / (counts + 2)[place]
    weights = (0.5 / counts)[place] if balanced else np.full(len(labels), 1 / len(labels))
    # Standardised, both variables have steps of one size, wherever the logits lie.
    centre, scale = float(logits.mean()), max(float(logits.std()), 1e-9)
    columns = np.stack([(logits - centre) / scale, -np.ones_like(logits)], 1)

    def minimise(slope: float, free: tuple[bool, bool]) -> tuple[float, float]:
        """Return the best slope and shift, of those that are free, from a slope and no shift on."""
        line = torch.tensor([slope, 0.0], dtype=torch.float64)
        optimizer = torch.optim.LBFGS(
            [line], max_iter=1000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
        )

        def cross_entropy() -> float:
            # By numpy: its sums don't depend on the number of threads.
            z = columns @ line.numpy()
            line.grad = torch.from_numpy(columns.T @ (weights * (_sigmoid(z) - targets)) * free)
            return float(weights @ (np.logaddexp(0, z) - targets * z))

        optimizer.step(cross_entropy)  # type: ignore[no-untyped-call]
        return float(line[0]), float(line[1])

    slope, shift = minimise(1.0, (True, True))
    steepest, flattest = (1 / temperature for temperature in TEMPERATURES)
    sharpness = float(np.clip(slope / scale, flattest, steepest))
    if sharpness != slope / scale:
        # The shift belongs to the slope that was found, not to the bound.
        _, shift = minimise(sharpness * scale, (False, True))
    return 1 / sharpness, centre + shift / sharpness
