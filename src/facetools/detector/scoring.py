"""Score held-out faces with a detector that is trained, without and with augmentation, and measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from _toolio.files.hashing import text_digest
from facetools.detector.crops import Crop, face_crops
from facetools.detector.detector import logits_of
from facetools.detector.network import ResidualNet
from facetools.detector.platt import Numbers
from facetools.detector.training.examples import Example
from facetools.metrics import area_under_roc
from facetools.photos.photo import Pixels
from facetools.transforms.augment import CHANGES, ODD, SURVIVED


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
    """Yield the logits of faces after each of some changes, float64 [examples, 2 + attacks].

    Draws depend on the photo alone.
    """
    network.eval()
    for name in names:
        found = []
        for example in examples:
            # A cloaked copy is changed as the clean one is.
            seed = list(text_digest(f"{name} {example.photo}")[:8])

            def change(pixels: Pixels, name: str = name, seed: list[int] = seed) -> Pixels:
                return CHANGES[name](pixels, np.random.default_rng(seed))

            found.append(logits_of(network, _crops(example, change)).double().cpu().numpy())
        yield np.array(found, np.float64)


MOST_CHANGED = 60
"""Faces of a source, clean and cloaked, that are also scored after changes."""

WEAKENED = (*SURVIVED, "jpeg", "jpeg-twice", "blur", "soften", "denoise")
"""Changes to cloaked faces, after which fewer and fewer cloaks can be seen."""


@dataclass(frozen=True, slots=True)
class UnseenScores:
    """Logits of faces by a network that has not been trained on their people, or on their source.

    Attributes
    ----------
    clean, cloaked
        float64 [n, 2 + attacks]. The logit of power of a cloaked face is that of its clean copy, if it has one: a face
        that is cloaked shows whether its cloak is seen.
    attacks
        Number of the attack of each cloaked face.
    clean_after, cloaked_after
        By change, the same of some of the faces after it: clean ones after ``ODD`` and ``SURVIVED``, cloaked ones
        after ``WEAKENED``.
    """

    clean: Numbers
    cloaked: Numbers
    attacks: Sequence[int]
    clean_after: Mapping[str, Numbers]
    cloaked_after: Mapping[str, Numbers]


def score_unseen(
    network: ResidualNet, examples: Sequence[Example], attacks: Sequence[int], *, most: int | None = None
) -> UnseenScores:
    """Score faces that a network has not seen, as they are and after changes; of each label ``most`` after these."""
    parts = [[e for e in examples if e.cloaked is label] for label in (False, True)]
    # The order of examples is that of their paths: a stride takes some of every kind.
    few = [part[:: -(-len(part) // most) or 1] if most else part for part in parts]
    clean_after = _after(network, few[0], tuple(dict.fromkeys((*ODD, *SURVIVED))))
    cloaked_after = _after(network, few[1], WEAKENED)
    clean, cloaked = (score(network, part) if part else np.empty((0, 3 + max(attacks))) for part in parts)
    rows = {example.source: row for row, example in enumerate(parts[0])}
    for row, example in enumerate(parts[1]):
        if example.partner in rows:
            cloaked[row, 1] = clean[rows[example.partner], 1]
    copies = {example.source: example for example in parts[0]}
    twins = [copies.get(example.partner or "", example) for example in few[1]]
    for name, after in _after(network, twins, WEAKENED).items():
        cloaked_after[name][:, 1] = after[:, 1]
    return UnseenScores(clean, cloaked, [attacks[e.cloak] for e in parts[1]], clean_after, cloaked_after)


def _after(network: ResidualNet, examples: Sequence[Example], names: Sequence[str]) -> dict[str, Numbers]:
    return dict(zip(names, score_changed(network, examples, names), strict=True)) if examples else {}


def score_sources(network: ResidualNet, examples: Sequence[Example], attacks: Sequence[int]) -> dict[str, UnseenScores]:
    """Score the faces of sources that a network has not seen, by source."""
    return {
        group: score_unseen(network, [e for e in examples if e.group == group], attacks, most=MOST_CHANGED)
        for group in sorted({example.group for example in examples})
    }


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
