"""Training windows of a detector: cut from faces at random and augmented, clean and cloaked ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from facetools.detector.crops import CROP_SCALE, LARGEST_PX, resized, square_of
from facetools.detector.training.examples import Example
from facetools.photos.photo import Pixels, add_change
from facetools.transforms.augment import AFTER, BEFORE, CHANGES, MISTAKEN, save_as_jpeg, scale

SIDES_PX = (64, 96, 128)
"""Sides of a training window; predictions are of whole faces, of any size."""

MARGIN_PX = 8
"""Margin around a window while it is augmented, so that no filter sees its edge."""

STRENGTHS = (0.35, 1.25)
"""A cloak is shown between a third and five quarters as strong as it is: future tools' cloaks will differ."""

SMALLEST_FACE_PX = 36
"""Photos are reduced after the cloak until their face has at least this side."""

RECLOAKED = 0.35
"""Probability that a photo is changed before the cloak is laid on it, stronger or weaker."""

TRANSPLANTED = 0.35
"""Probability that a cloak is laid on another photo's face than that which it was made for."""

GREY = 0.2
"""Probability that a pair is shown in grey: where there is colour, it tells a cloak sooner than all else."""

AS_IT_IS = 0.5
"""A draw at which a photo is not scaled."""

AFTERWARDS = (0.4, 0.35, 0.17, 0.08)
"""Probabilities of no, one, two and three changes after the cloak."""

_AFTER = (*AFTER, *MISTAKEN)
"""Each as likely as another; some twice as likely."""

WINDOW_SCALE = 1.5
"""Side of the square around a face that windows are cut from, in sides of its box."""

Window = npt.NDArray[np.float32]
"""[side, side, 3], 0 to 255."""

Change = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """How one pair of windows is cut: alike, so that only the cloak tells them apart.

    Attributes
    ----------
    side
        Of the window, pixels.
    factor
        By which the photo is scaled after the cloak.
    shown
        By which the detector reduces the face after that, at most 1.
    seed
        Of what is drawn next.
    """

    side: int
    factor: float
    shown: float
    seed: int

    @property
    def before(self) -> int:
        """Side of what is cut of the photo for a window and its margin, pixels."""
        return round((self.side + 2 * MARGIN_PX) / (self.factor * self.shown))


def draw_pair(
    clean: Example,
    cloaked: Example,
    side: int,
    rng: np.random.Generator,
    *,
    onto: Example | None = None,
    odd: float = 1,
) -> list[Window]:
    """Cut the same window of a clean and a cloaked face, with the same random augmentation.

    Only the cloak itself can predict the label. Where both were cut alike, the cloak may be laid, stronger or weaker,
    on the photo as it would be had it been saved, filtered or taken differently before, or on another photo.

    Parameters
    ----------
    clean, cloaked
        The pair.
    side
        Of the window, pixels.
    rng
        For all draws.
    onto
        A clean face of another photo, which takes the place of the clean one where the pair was cut alike.
    odd
        Share of pairs that are augmented, 0 to 1; of others the cloak is as strong as it is or a little stronger.

    Returns
    -------
    list of float32 [side, side, 3]
        The clean window and the cloaked one.
    """
    augmented = rng.random() < odd
    alike = cloaked.partner == clean.source
    if alike and onto is not None:
        if onto.elsewhere is not None and rng.random() < 0.2:
            onto = _of_elsewhere(onto)
        draw = _draw(onto, side, rng, augmented)
        top, left, bottom, right = _place(onto, draw)
        change = _moved_change(clean, cloaked, onto, (top, left, bottom, right))
        parts = _recloak(onto.pixels[top:bottom, left:right], change, rng, augmented)
        return [_finish(part, draw, augmented) for part in parts]
    draw = _draw(clean, side, rng, augmented)
    # A cloaked face that was not cut like the clean one lies elsewhere, and may have another size.
    own = draw if alike else replace(draw, shown=_shown(cloaked, draw.factor))
    before, after = _cut(clean, draw), _cut(cloaked, own)
    if alike and augmented and rng.random() < RECLOAKED:
        before, after = _recloak(before, after.astype(np.float32) - before, rng, augmented)
    return [_finish(before, draw, augmented), _finish(after, own, augmented)]


def draw_unpaired(clean: Example, side: int, rng: np.random.Generator, *, odd: float = 1) -> Window:
    """Cut a window of a clean face, or from elsewhere in its photo, and augment it: float32 [side, side, 3]."""
    augmented = rng.random() < odd
    if clean.elsewhere is not None and rng.random() < 0.4:
        clean = _of_elsewhere(clean)
    draw = _draw(clean, side, rng, augmented)
    part = _cut(clean, draw)
    return _finish(_change(part, BEFORE, rng) if augmented and rng.random() < RECLOAKED else part, draw, augmented)


def _of_elsewhere(example: Example) -> Example:
    """Return an example of what is elsewhere in a photo, as if a face were in its middle."""
    assert example.elsewhere is not None
    height, width = example.elsewhere.shape[:2]
    margin = (1 - 1 / WINDOW_SCALE) / 2
    box = (margin * width, margin * height, (1 - margin) * width, (1 - margin) * height)
    return Example(example.source, example.person, example.photo, -1, example.elsewhere, box, example.origin)


def _draw(example: Example, side: int, rng: np.random.Generator, augmented: bool) -> Draw:
    """Draw how a face's photo is scaled after the cloak: as it is, or to any smaller size, or a little larger."""
    face, factor = _face_px(example), 1.0
    drawn = rng.random() if augmented else AS_IT_IS
    if drawn < 0.45 and face > SMALLEST_FACE_PX:
        factor = float(np.exp(rng.uniform(np.log(SMALLEST_FACE_PX / face), 0)))
    elif drawn > 0.9:
        factor = float(rng.uniform(1, 1.5))
    return Draw(side, factor, _shown(example, factor), int(rng.integers(2**62)))


def _face_px(example: Example) -> float:
    x0, y0, x1, y1 = example.box
    return max(x1 - x0, y1 - y0)


def _shown(example: Example, factor: float) -> float:
    """Return by which factor the detector reduces a face that has been scaled by another."""
    return min(1.0, LARGEST_PX / (CROP_SCALE * factor * _face_px(example)))


def _cut(example: Example, draw: Draw) -> Pixels:
    """Cut what `_place` draws."""
    top, left, bottom, right = _place(example, draw)
    return example.pixels[top:bottom, left:right]


def _place(example: Example, draw: Draw) -> tuple[int, int, int, int]:
    """Draw a square near a face, (top, left, bottom, right), that is large enough for a window, or all there is."""
    rng = np.random.default_rng(draw.seed)
    left, top, right, bottom = square_of(example.box, WINDOW_SCALE, 10**9, example.pixels.shape)
    top += int(rng.integers(max(0, bottom - top - draw.before) + 1))
    left += int(rng.integers(max(0, right - left - draw.before) + 1))
    return top, left, min(bottom, top + draw.before), min(right, left + draw.before)


def _moved_change(clean: Example, cloaked: Example, onto: Example, place: tuple[int, int, int, int]) -> Change:
    """Return the change to one face, float32 [h, w, 3], as one to a part of another's square, boxes upon each other."""
    top, left, bottom, right = place
    (x0, y0, x1, y1), (u0, v0, u1, v1) = clean.box, onto.box
    across, down = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    columns = (np.arange(left, right) + 0.5 - u0) * across + x0
    rows = (np.arange(top, bottom) + 0.5 - v0) * down + y0
    # The part of the change that is sampled, and what filters see beside it.
    height, width = clean.pixels.shape[:2]
    first_row, first_column = max(0, int(rows[0]) - 4), max(0, int(columns[0]) - 4)
    # An end below zero would be counted from the far side.
    last_row, last_column = max(0, min(height, int(rows[-1]) + 5)), max(0, min(width, int(columns[-1]) + 5))
    part = (slice(first_row, last_row), slice(first_column, last_column))
    change = torch.from_numpy(cloaked.pixels[part].astype(np.float32) - clean.pixels[part]).permute(2, 0, 1)[None]
    if not change.numel():
        return np.zeros((bottom - top, right - left, 3), np.float32)
    high, wide = change.shape[2:]
    # grid_sample measures both pictures from -1 to 1.
    grid_x, grid_y = 2 * (columns - first_column) / wide - 1, 2 * (rows - first_row) / high - 1
    grid = np.stack(np.broadcast_arrays(grid_x[None, :], grid_y[:, None]), -1).astype(np.float32)
    shrink = max(across, down)
    if shrink > 1.3:  # of a larger face: without reduction, samples would miss what lies between
        size = [max(2, round(length / shrink)) for length in (high, wide)]
        change = F.interpolate(change, size, mode="bilinear", antialias=True, align_corners=False)
    laid = F.grid_sample(change, torch.from_numpy(grid)[None], mode="bicubic", align_corners=False)
    return laid[0].permute(1, 2, 0).contiguous().numpy()


def _recloak(clean: Pixels, change: Change, rng: np.random.Generator, augmented: bool) -> tuple[Pixels, Pixels]:
    """Lay a change, stronger or weaker, on a photo, perhaps after one to the photo itself."""
    base = _change(clean, BEFORE, rng) if augmented and rng.random() < 0.6 else clean
    strength = float(np.exp(rng.uniform(*np.log(STRENGTHS if augmented else (1, STRENGTHS[1])))))
    return base, add_change(base, np.float32(strength) * change)


def _change(pixels: Pixels, names: Sequence[str], rng: np.random.Generator) -> Pixels:
    for _ in range(1 + (rng.random() < 0.35)):
        pixels = CHANGES[names[int(rng.integers(len(names)))]](pixels, rng)
    return pixels


def _finish(pixels: Pixels, draw: Draw, augmented: bool) -> Window:
    """Scale, change, save, reduce as for the detector and cut to the window, each at random; mirror half of them."""
    rng = np.random.default_rng([draw.seed, 1])
    if rng.random() < GREY:
        pixels = CHANGES["grey"](pixels, rng)
    if draw.factor != 1:
        pixels = scale(pixels, draw.factor, rng)
    for _ in range(int(rng.choice(len(AFTERWARDS), p=AFTERWARDS)) if augmented else 0):
        pixels = CHANGES[_AFTER[int(rng.integers(len(_AFTER)))]](pixels, rng)
    if augmented and rng.random() < 0.45:  # most photos are JPEG in the end
        pixels = save_as_jpeg(pixels, int(rng.integers(50, 99)), int(rng.integers(3)))
    values = resized(pixels, draw.shown) if draw.shown < 1 else pixels.astype(np.float32)
    short = [max(0, draw.side - length) for length in values.shape[:2]]
    if any(short):
        values = np.pad(values, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(length - draw.side + 1)) for length in values.shape[:2])
    window = values[top : top + draw.side, left : left + draw.side]
    return np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)
