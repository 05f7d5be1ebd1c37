"""Training windows of a detector: cut from faces at random and augmented, clean and cloaked ones alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetools.detector.crops import square_of
from facetools.detector.examples import Example
from facetools.photos.photo import Pixels, add_change
from facetools.transforms.augment import AFTER, BEFORE, CHANGES, save_as_jpeg, scale

WINDOW_PX = 96
"""Side of a training window; predictions are of whole faces."""

MARGIN_PX = 8
"""Margin around a window while it is augmented, so that no filter sees its edge."""

STRENGTHS = (0.25, 1.25)
"""A cloak is shown between a quarter and five quarters as strong as it is: future tools' cloaks will differ."""

SCALES = (0.5, 1.5)
"""Photos are scaled by these factors after the cloak."""

RECLOAKED = 0.35
"""Probability that a photo is changed before the cloak is laid on it, stronger or weaker."""

REDUCED = 0.5
"""Probability that a face with a reduced crop is shown reduced: the detector sees both."""

WINDOW_SCALE = 1.5
"""Side of the square around a face that windows are cut from, in sides of its box."""


def draw_pair(clean: Example, cloaked: Example, rng: np.random.Generator) -> list[Pixels]:
    """Cut the same window of a clean and a cloaked face, with the same random augmentation.

    Only the cloak itself can predict the label. Where both were cut alike, the cloak may be laid, stronger or weaker,
    on the photo as it would be had it been saved, filtered or taken differently before.

    Returns
    -------
    list of uint8 [WINDOW_PX, WINDOW_PX, 3]
        The clean window and the cloaked one.
    """
    if clean.reduced is not None and cloaked.reduced is not None and rng.random() < REDUCED:
        clean, cloaked = clean.as_reduced(), cloaked.as_reduced()
    factor, place, change = _draw_factor(rng), int(rng.integers(2**62)), int(rng.integers(2**62))
    parts = [_cut(example, factor, np.random.default_rng(place)) for example in (clean, cloaked)]
    if cloaked.partner == clean.source and rng.random() < RECLOAKED:
        parts = _recloak(parts[0], parts[1], rng)
    return [_finish(part, factor, np.random.default_rng(change)) for part in parts]


def draw_unpaired(clean: Example, rng: np.random.Generator) -> Pixels:
    """Cut a window of a clean face and augment it: uint8 [WINDOW_PX, WINDOW_PX, 3]."""
    if clean.reduced is not None and rng.random() < REDUCED:
        clean = clean.as_reduced()
    factor = _draw_factor(rng)
    part = _cut(clean, factor, rng)
    return _finish(_change(part, BEFORE, rng) if rng.random() < RECLOAKED else part, factor, rng)


def _draw_factor(rng: np.random.Generator) -> float:
    """Draw the factor by which the photo was scaled after the cloak."""
    return _draw_between(SCALES, rng) if rng.random() < 0.3 else 1.0


def _draw_between(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a factor log-uniformly."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _cut(example: Example, factor: float, rng: np.random.Generator) -> Pixels:
    """Cut a random rectangle of the face that is large enough for a window after scaling, or all there is."""
    left, top, right, bottom = square_of(example.box, WINDOW_SCALE, 10**9, example.pixels.shape)
    side = round((WINDOW_PX + 2 * MARGIN_PX) / factor)
    return _rectangle(example.pixels[top:bottom, left:right], side, rng)


def _rectangle(pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """Cut a random square; a side that is shorter stays as it is."""
    top, left = (int(rng.integers(max(0, length - side) + 1)) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _recloak(clean: Pixels, cloaked: Pixels, rng: np.random.Generator) -> list[Pixels]:
    change = cloaked.astype(np.float32) - clean
    base = _change(clean, BEFORE, rng) if rng.random() < 0.6 else clean
    return [base, add_change(base, np.float32(_draw_between(STRENGTHS, rng)) * change)]


def _change(pixels: Pixels, names: Sequence[str], rng: np.random.Generator) -> Pixels:
    for _ in range(1 + (rng.random() < 0.35)):
        pixels = CHANGES[names[int(rng.integers(len(names)))]](pixels, rng)
    return pixels


def _finish(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Scale, change, save and cut to the window, each at random, and mirror half of them."""
    if factor != 1:
        pixels = scale(pixels, factor, rng)
    if rng.random() < 0.35:
        pixels = _change(pixels, AFTER, rng)
    if rng.random() < 0.35:  # most photos are JPEG in the end
        pixels = save_as_jpeg(pixels, int(rng.integers(50, 99)), int(rng.integers(3)))
    short = [max(0, WINDOW_PX - length) for length in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    window = _rectangle(pixels, WINDOW_PX, rng)
    return np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)
