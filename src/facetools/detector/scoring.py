"""Score held-out faces with a detector that is trained, without and with augmentation, and measure it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facetools.detector.crops import Crop, face_crops
from facetools.detector.detector import logits_of
from facetools.detector.examples import Example
from facetools.detector.network import ResidualNet
from facetools.metrics import area_under_roc
from facetools.photos.photo import Pixels
from facetools.transforms.augment import CHANGES

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
