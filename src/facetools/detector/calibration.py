"""Calibrate a detector on held-out people: the temperature and offset of its scores, and the threshold for labels.

`choose_threshold` decides from which score on a face is labelled cloaked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from facetools.detector.detector import Calibration
from facetools.detector.examples import Example
from facetools.detector.network import ResidualNet
from facetools.detector.scoring import Numbers, score, score_changed
from facetools.transforms.augment import ODD, SURVIVED

Labels = npt.NDArray[np.bool_]

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature."""

LOWEST_THRESHOLD = 0.5
"""Below it a face is more likely clean than cloaked."""


def calibrate(
    network: ResidualNet, unseen: Sequence[Example], *, false_alarms: float
) -> tuple[Calibration, dict[str, float]]:
    """Fit temperature and offset, and choose the threshold, on faces without and with augmentation.

    Temperature and offset are fitted as if half of the faces were cloaked, on faces as they are and after the changes
    that a cloak should survive. The threshold is chosen on clean faces as they are, and after all that may happen to
    photos.

    Parameters
    ----------
    network
        Trained.
    unseen
        Clean and cloaked faces of held-out people.
    false_alarms
        False positive rate that the threshold may have.

    Returns
    -------
    Calibration, dict
        And rates at the threshold on these same faces: ``recall`` and ``false_alarms``, and ``odd_false_alarms`` of
        clean ones after changes.
    """
    clean, cloaked = ([e for e in unseen if e.cloaked is label] for label in (False, True))
    plain = [score(network, part)[:, 0] for part in (clean, cloaked)]
    changed = [np.concatenate(list(score_changed(network, part, SURVIVED))) for part in (clean, cloaked)]
    logits = np.concatenate([plain[0], changed[0], plain[1], changed[1]])
    labels = np.arange(len(logits)) >= len(plain[0]) + len(changed[0])
    temperature, offset = fit_platt(logits, labels)
    others = [name for name in ODD if name not in SURVIVED]
    odd = np.concatenate([changed[0], *score_changed(network, clean, others)])
    recalled, usual, unusual = (scores_of(each, temperature, offset) for each in (plain[1], plain[0], odd))
    threshold = choose_threshold(usual, unusual, false_alarms=false_alarms)
    rates = {"recall": recalled, "false_alarms": usual, "odd_false_alarms": unusual}
    return Calibration(temperature, offset, threshold), {
        name: float((scores >= threshold).mean()) for name, scores in rates.items()
    }


def choose_threshold(*clean: Numbers, false_alarms: float) -> float:
    """Return the score from which on a face is labelled cloaked.

    It is the lowest from 0.5 on, of four decimals, at which the false positive rate on each set of faces is at most
    ``false_alarms``.

    Parameters
    ----------
    clean
        Sets of scores of clean faces, 0 to 1.
    false_alarms
        0 to 0.5.
    """
    lowest = max(_least_above(scores, false_alarms) for scores in clean)
    return float(np.clip(lowest, LOWEST_THRESHOLD, 1.0))


def _least_above(scores: Numbers, share: float) -> float:
    """Return the least threshold, of four decimals, that no more than a share of the scores reaches."""
    # What reaches the threshold is called cloaked: rounded up, it stays above the first face that may not.
    allowed = int(share * len(scores) + 1e-9)
    return float(np.ceil(np.sort(scores)[-1 - allowed] * 1e4 + 1e-6) / 1e4)


def scores_of(logits: Numbers, temperature: float, offset: float) -> Numbers:
    """Return scores, 0 to 1: the sigmoid of (logits - offset) / temperature."""
    return _sigmoid((logits - offset) / temperature)


def _sigmoid(z: Numbers) -> Numbers:
    # Of large numbers exp would overflow.
    return np.exp(-np.logaddexp(0, -z))


def fit_platt(logits: Numbers, labels: Labels) -> tuple[float, float]:
    """Fit the temperature and offset that make scores probabilities where half of the faces are cloaked.

    Minimises the cross-entropy (Guo et al. 2017, arXiv 1706.04599) over both by L-BFGS, with clean and cloaked faces
    weighing the same in all. Targets are Platt's (1999), so that faces which a threshold separates have a solution.

    Parameters
    ----------
    logits, labels
        float64 [n] and bool [n]; both labels must occur.

    Returns
    -------
    float, float
        The temperature, between 0.05 and 20, and the offset.
    """
    counts = np.array([(~labels).sum(), labels.sum()])
    place = labels.astype(int)
    targets, weights = np.array([1, counts[1] + 1])[place] / (counts + 2)[place], (0.5 / counts)[place]
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
