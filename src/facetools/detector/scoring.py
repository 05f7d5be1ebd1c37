"""Score held-out faces with a detector that is trained, without and with augmentation, and measure it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facetools.detector.crops import Crop, face_crops
from facetools.detector.detector import logits_of
from facetools.detector.network import ResidualNet
from facetools.detector.training.examples import Example
from facetools.metrics import area_under_roc
from facetools.photos.photo import Pixels
from facetools.transforms.augment import CHANGES, ODD, SURVIVED

Numbers = npt.NDArray[np.float64]


def score(network: ResidualNet, examples: Sequence[Example]) -> Numbers:
    """Return the logits of whole faces, cut as for prediction, float64 [examples, 2 + attacks]."""
    network.eval()
    found = [logits_of(network, _crops(example, lambda pixels: pixels)).double().cpu().numpy() for example in examples]
    return np.array(found, np.float64)


def _crops(example: Example, change: Callable[[Pixels], Pixels]) -> list[Crop]:
    """Return a face's crops after a change.

    A change that scales the face's square moves its box with it; what one cuts off is little.
    """
    changed = change(example.pixels)
    wider, higher = (changed.shape[axis] / example.pixels.shape[axis] for axis in (1, 0))
    x0, y0, x1, y1 = example.box
    crops = face_crops(changed, (x0 * wider, y0 * higher, x1 * wider, y1 * higher))
    # Of a small face at the photo's edge a change may leave too little around the box.
    return crops or [changed]


def score_changed(network: ResidualNet, examples: Sequence[Example], names: Sequence[str]) -> Iterator[Numbers]:
    """Yield the logits of faces after each of some changes, float64 [examples]; draws depend on the photo alone."""
    network.eval()
    for name in names:
        found = []
        for example in examples:
            # A cloaked copy is changed as the clean one is.
            drawn = hashlib.sha256(f"{name} {example.photo}".encode("utf-8", "surrogateescape")).digest()
            seed = list(drawn[:8])

            def change(pixels: Pixels, name: str = name, seed: list[int] = seed) -> Pixels:
                return CHANGES[name](pixels, np.random.default_rng(seed))

            found.append(float(logits_of(network, _crops(example, change))[0]))
        yield np.array(found, np.float64)


MOST_CHANGED = 60
"""Faces of each source, clean and cloaked, that are also scored after changes."""


@dataclass(frozen=True, slots=True)
class UnseenScores:
    """Logits of a source's faces by a network that has been trained on other sources alone.

    Attributes
    ----------
    clean, cloaked
        float64 [n, 2 + attacks].
    attacks
        Number of the attack of each cloaked face.
    odd, survived
        By change: clean faces after changes that look odd, and cloaked ones after changes that a cloak
        should survive, float64 [m] each.
    """

    clean: Numbers
    cloaked: Numbers
    attacks: Sequence[int]
    odd: Mapping[str, Numbers]
    survived: Mapping[str, Numbers]


def score_sources(network: ResidualNet, examples: Sequence[Example], attacks: Sequence[int]) -> dict[str, UnseenScores]:
    """Score the faces of sources that a network has not seen, as they are and, of some, after changes."""
    found = {}
    for group in sorted({example.group for example in examples}):
        parts = [[e for e in examples if e.group == group and e.cloaked is label] for label in (False, True)]
        # The order of sources is that of their paths: a stride takes some of every kind.
        few = [part[:: -(-len(part) // MOST_CHANGED) or 1] for part in parts]
        odd, survived = (
            dict(zip(names, score_changed(network, part, names), strict=True)) if part else {}
            for names, part in ((ODD, few[0]), (SURVIVED, few[1]))
        )
        clean, cloaked = (score(network, part) if part else np.empty((0, 2 + max(attacks) + 1)) for part in parts)
        found[group] = UnseenScores(clean, cloaked, [attacks[e.cloak] for e in parts[1]], odd, survived)
    return found


def measure(logits: Numbers, cloaks: Sequence[int], names: Sequence[str], attacks: Sequence[int]) -> dict[str, Any]:
    """Measure a detector on held-out faces.

    Parameters
    ----------
    logits
        [faces, 2 + attacks].
    cloaks
        Number of each face's folder, -1 for a clean one.
    names
        Names of the attacks.
    attacks
        Number of each folder's attack.

    Returns
    -------
    dict
        ``auc`` over all; ``attacks``, the AUC of each attack's faces against the clean ones; ``attack_accuracy``, the
        accuracy of the likeliest attack over the cloaked faces.
    """
    which = np.array([-1 if cloak < 0 else attacks[cloak] for cloak in cloaks])
    cloaked, first = which >= 0, logits[:, 0]
    each = {name: area_under_roc(first[part := ~cloaked | (which == n)], cloaked[part]) for n, name in enumerate(names)}
    right = float((logits[cloaked, 2:].argmax(1) == which[cloaked]).mean())
    return {"auc": area_under_roc(first, cloaked), "attacks": each, "attack_accuracy": right}
