"""Preprocessing of photos by platforms and trainers, with Pillow: JPEG, resizing, blur."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _toolio.errors import UsageError, param

if TYPE_CHECKING:
    from PIL import Image

    from facetools.photos.photo import Pixels

# Kind -> smallest and largest value.
_RANGES = {"jpeg": (1.0, 100.0), "resize": (0.05, 4.0), "blur": (0.1, 50.0)}
_EXAMPLES = "none, jpeg:75, resize:0.5, blur:1"


@dataclass(frozen=True, slots=True)
class Preprocess:
    """One preprocessing step.

    Attributes
    ----------
    kind
        ``none``; ``jpeg``: save with 4:2:0 chroma and open again; ``resize``: by a factor, antialiased bicubic;
        ``blur``: Gaussian.
    value
        JPEG quality, factor, or standard deviation in pixels; 0 for ``none``.
    """

    kind: str
    value: float

    @property
    def name(self) -> str:
        """As ``parse_preprocess`` takes it, such as ``jpeg:75``; the name in records."""
        return self.kind if self.kind == "none" else f"{self.kind}:{self.value:g}"

    def apply(self, pixels: Pixels) -> tuple[Pixels, tuple[float, float]]:
        """Apply the step.

        Parameters
        ----------
        pixels
            uint8 [H, W, 3], RGB; not changed.

        Returns
        -------
        uint8 [H', W', 3], (float, float)
            The photo, and how much wider and higher it got. With pixel centres at whole numbers, a landmark's x
            becomes (x + 0.5) * wider - 0.5.
        """
        if self.kind == "none":
            return pixels, (1.0, 1.0)
        import numpy as np
        from PIL import Image

        before = Image.fromarray(pixels)
        after = self._changed(before)
        return np.array(after, np.uint8), (after.width / before.width, after.height / before.height)

    def _changed(self, photo: Image.Image) -> Image.Image:
        from PIL import Image, ImageFilter

        if self.kind == "jpeg":
            data = io.BytesIO()
            photo.save(data, "JPEG", quality=int(self.value), subsampling="4:2:0")
            return Image.open(data).convert("RGB")
        if self.kind == "resize":
            width, height = (max(1, round(side * self.value)) for side in photo.size)
            return photo.resize((width, height), Image.Resampling.BICUBIC)
        return photo.filter(ImageFilter.GaussianBlur(self.value))


def parse_preprocess(text: str) -> Preprocess:
    """Parse ``none``, ``jpeg:75`` (quality 1 to 100), ``resize:0.5`` (0.05 to 4) or ``blur:1`` (0.1 to 50 pixels).

    Raises
    ------
    UsageError
        It is none of these.
    """
    kind, colon, number = text.strip().partition(":")
    if kind == "none" and not colon:
        return Preprocess("none", 0.0)
    if kind not in _RANGES or not colon:
        raise UsageError(f"{param('preprocess')} {text}: not known; write for example {_EXAMPLES}")
    low, high = _RANGES[kind]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (kind == "jpeg" and value != int(value)):
        whole = "a whole number" if kind == "jpeg" else "a number"
        raise UsageError(f"{param('preprocess')} {text}: {kind} takes {whole} from {low:g} to {high:g}")
    return Preprocess(kind, value)
