"""What a trained detector's logits mean, measured on people that it has not seen: calibration and figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facetools.detector.crops import looks_of
from facetools.detector.detector import Calibration, logits_of
from facetools.detector.examples import Example
from facetools.detector.network import ResidualNet
from facetools.metrics import area_under_roc
from facetools.photos.photo import Pixels
from facetools.transforms.augment import CHANGES, ODD, SURVIVED

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


def score(network: ResidualNet, examples: Sequence[Example]) -> Numbers:
    """Give the logits of whole faces as ``detect`` looks at them, float64 [examples, 1 + attacks]."""
    network.eval()
    found = [logits_of(network, _looks(example, lambda pixels: pixels)).double().cpu().numpy() for example in examples]
    return np.array(found, np.float64)


def _looks(example: Example, change: Callable[[Pixels], Pixels]) -> list[Pixels]:
    """Give what is looked at of a face after a change.

    One that scales the face's square moves its box with it; what one cuts off is little. Of a large face the square
    that is reduced was larger than what is kept of the photo, and is changed after it was reduced.
    """
    changed = change(example.pixels)
    wider, higher = (changed.shape[axis] / example.pixels.shape[axis] for axis in (1, 0))
    x0, y0, x1, y1 = example.box
    looks = looks_of(changed, (x0 * wider, y0 * higher, x1 * wider, y1 * higher))
    if example.reduced is not None:
        return [change(example.reduced), *looks[-1:]]
    # Of a small face at the photo's edge a change may leave too little around the box.
    return looks or [changed]


def score_changed(network: ResidualNet, examples: Sequence[Example], names: Sequence[str]) -> Iterator[Numbers]:
    """Give the logits of faces after each of some changes, float64 [examples] each; draws depend on the photo alone."""
    network.eval()
    for name in names:
        found = []
        for example in examples:
            # A cloaked copy is changed as the clean one is.
            drawn = hashlib.sha256(f"{name} {example.photo}".encode("utf-8", "surrogateescape")).digest()
            seed = list(drawn[:8])

            def change(pixels: Pixels, name: str = name, seed: list[int] = seed) -> Pixels:
                return CHANGES[name](pixels, np.random.default_rng(seed))

            found.append(float(logits_of(network, _looks(example, change))[0]))
        yield np.array(found, np.float64)


def measure(logits: Numbers, cloaks: Sequence[int], names: Sequence[str], attacks: Sequence[int]) -> dict[str, Any]:
    """Give figures on held-out faces.

    Parameters
    ----------
    logits
        [faces, 1 + attacks].
    cloaks
        Of each face the number of its folder, -1 for a clean one.
    names
        Names of the attacks.
    attacks
        Of each folder its attack.

    Returns
    -------
    dict
        ``auc`` over all; ``attacks``, the AUC of each attack's faces against the clean ones; ``attack_accuracy``, the
        share of cloaked faces whose attack is the likeliest.
    """
    which = np.array([-1 if cloak < 0 else attacks[cloak] for cloak in cloaks])
    cloaked, first = which >= 0, logits[:, 0]
    each = {name: area_under_roc(first[part := ~cloaked | (which == n)], cloaked[part]) for n, name in enumerate(names)}
    right = float((logits[cloaked, 1:].argmax(1) == which[cloaked]).mean())
    return {"auc": area_under_roc(first, cloaked), "attacks": each, "attack_accuracy": right}


def calibrate(
    network: ResidualNet, unseen: Sequence[Example], *, false_alarms: float
) -> tuple[Calibration, dict[str, float]]:
    """Fit what logits mean, on faces as they are and after what happens to photos.

    Temperature and offset are fitted where half of the faces are cloaked, as they are and after the changes that a
    cloak should survive. The threshold is the lowest from 0.5 on at which at most a share ``false_alarms`` of the clean
    faces is called cloaked: of them as they are, and of them after all that may happen to photos.

    Returns
    -------
    Calibration, dict
        And shares at the threshold, of these same faces as they are: ``recall`` and ``false_alarms``, and
        ``odd_false_alarms`` of clean ones after changes.
    """
    clean, cloaked = ([e for e in unseen if e.cloaked is label] for label in (False, True))
    plain = [score(network, part)[:, 0] for part in (clean, cloaked)]
    changed = [np.concatenate(list(score_changed(network, part, SURVIVED))) for part in (clean, cloaked)]
    logits = np.concatenate([plain[0], changed[0], plain[1], changed[1]])
    labels = np.arange(len(logits)) >= len(plain[0]) + len(changed[0])
    temperature, offset = fit(logits, labels)
    others = [name for name in ODD if name not in SURVIVED]
    odd = np.concatenate([changed[0], *score_changed(network, clean, others)])
    lowest = [_least_above(scores_of(z, temperature, offset), false_alarms) for z in (plain[0], odd)]
    threshold = float(np.clip(max(lowest), 0.5, 1.0))
    shares = [float((scores_of(z, temperature, offset) >= threshold).mean()) for z in (plain[1], plain[0], odd)]
    return Calibration(temperature, offset, threshold), dict(
        zip(("recall", "false_alarms", "odd_false_alarms"), shares, strict=True)
    )


def _least_above(scores: Numbers, share: float) -> float:
    """Give the least threshold, of four digits, that no more than a share of the scores reaches."""
    # What reaches the threshold is called cloaked: rounded up, it stays above the first face that may not.
    allowed = int(share * len(scores) + 1e-9)
    return float(np.ceil(np.sort(scores)[-1 - allowed] * 1e4 + 1e-6) / 1e4)


def scores_of(logits: Numbers, temperature: float, offset: float) -> Numbers:
    """Give scores, 0 to 1."""
    return np.exp(-np.logaddexp(0, -(logits - offset) / temperature))


def fit(logits: Numbers, labels: Labels) -> tuple[float, float]:
    """Find the temperature and the offset that make scores chances, where half of the faces are cloaked.

    Minimises the log loss (Guo et al. 2017) over both, clean and cloaked faces weighing the same in all, by Newton's
    method. As Platt (1999) does, no face counts as quite sure, so that faces which a threshold parts have a solution.

    Parameters
    ----------
    logits, labels
        float [n] and bool [n]; both labels must occur.

    Returns
    -------
    float, float
        The temperature, between 0.05 and 20, and the offset.
    """
    counts = np.array([(~labels).sum(), labels.sum()])
    place = labels.astype(int)
    wanted, weights = np.array([1, counts[1] + 1])[place] / (counts + 2)[place], (0.5 / counts)[place]
    columns = np.stack([logits, -np.ones_like(logits)], 1)

    def cost(line: Numbers) -> float:
        z = columns @ line
        return float(weights @ (np.logaddexp(0, z) - wanted * z))

    def descend(line: Numbers, free: Numbers) -> Numbers:
        """Go down from a sharpness and a shift, along those that are free, 1 or 0 each."""
        moved = columns * free
        for _ in range(100):
            chances = np.exp(-np.logaddexp(0, -columns @ line))
            slope = moved.T @ (weights * (chances - wanted))
            curve = (moved * (weights * chances * (1 - chances))[:, None]).T @ moved + 1e-9 * np.eye(2)
            step = np.linalg.solve(curve, slope)
            while cost(line - step) > cost(line) and abs(step).max() > 1e-9:
                step /= 2
            line = line - step
            if abs(step).max() < 1e-9:
                break
        return line

    line = descend(np.array([1.0, 0.0]), np.ones(2))
    sharpness = float(np.clip(line[0], 1 / 20, 1 / 0.05))
    if sharpness != line[0]:
        # The shift belongs to the sharpness that was found, not to the bound.
        line = descend(np.array([sharpness, sharpness * float(np.median(logits))]), np.array([0.0, 1.0]))
    return 1 / sharpness, float(line[1] / sharpness)
