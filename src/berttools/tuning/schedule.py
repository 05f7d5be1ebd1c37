"""The learning-rate schedule: linear warm-up to the peak, then linear decay to zero."""

from __future__ import annotations


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate of a step as a fraction of its peak, 0 to 1.

    Parameters
    ----------
    step
        The step, from 0.
    steps
        Number of steps of the whole training.
    warmup
        Share of the steps until the peak, 0 to 1; with 0 the first step is at the peak.
    """
    warm = max(1, round(warmup * steps))
    if warmup and step < warm:
        return (step + 1) / warm
    return max(0.0, (steps - step) / max(1, steps - (warm if warmup else 0)))
