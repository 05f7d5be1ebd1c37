"""Random augmentations of photos before and after cloaking: compression, scaling, filters, film grain.

Each is one function of a photo and a random generator, which draws its strength. The detector is trained on
them, clean and cloaked faces alike, and measured on them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from facetools.photos.photo import to_bytes

if TYPE_CHECKING:
    from facetools.photos.photo import Pixels

Change = Callable[["Pixels", np.random.Generator], "Pixels"]

_FILTERS = (
    *(Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS),
    *(Image.Resampling.BOX, Image.Resampling.HAMMING),
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SMALLEST_PX = 16
"""Smallest side of a scaled photo."""


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def _pixels(image: Image.Image) -> Pixels:
    return np.array(image, np.uint8)


def save_as_jpeg(pixels: Pixels, quality: int, subsampling: int = 2) -> Pixels:
    """Save as JPEG and open again; ``subsampling`` is Pillow's: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0."""
    data = io.BytesIO()
    _image(pixels).save(data, "JPEG", quality=quality, subsampling=subsampling)
    return _pixels(Image.open(data).convert("RGB"))


def scale(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Resize by a factor, by bilinear, bicubic, Lanczos, box or Hamming interpolation."""
    size = [max(SMALLEST_PX, round(side * factor)) for side in (pixels.shape[1], pixels.shape[0])]
    return _pixels(_image(pixels).resize((size[0], size[1]), _FILTERS[rng.integers(len(_FILTERS))]))


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Save as JPEG of quality 30 to 95."""
    return save_as_jpeg(pixels, int(rng.integers(30, 96)), int(rng.integers(3)))


def mild_jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Save as JPEG of quality 75 to 95."""
    return save_as_jpeg(pixels, int(rng.integers(75, 96)), int(rng.integers(3)))


def jpeg_twice(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Save as JPEG of quality 50 to 95, twice, on grids that do not agree."""
    once = save_as_jpeg(pixels, int(rng.integers(50, 96)))
    down, right = (int(rng.integers(8)) if side > 2 * SMALLEST_PX else 0 for side in pixels.shape[:2])
    return save_as_jpeg(once[down:, right:], int(rng.integers(50, 96)))


def encoder_jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Save as JPEG with tables that are flatter or steeper than the standard's, as cameras and editors have them."""
    steps = np.array([[2 + row + column for column in range(8)] for row in range(8)], np.float64).ravel()
    steepness, strength = rng.uniform(0.2, 2), np.exp(rng.uniform(np.log(0.8), np.log(8)))
    luma = strength * (steps / 2) ** steepness
    tables = [np.clip(np.rint(each), 1, 255).astype(int).tolist() for each in (luma, luma * rng.uniform(1, 2.5))]
    data = io.BytesIO()
    _image(pixels).save(data, "JPEG", qtables=tables, subsampling=int(rng.integers(3)))
    return _pixels(Image.open(data).convert("RGB"))


def webp(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Save as WebP of quality 40 to 95."""
    data = io.BytesIO()
    _image(pixels).save(data, "WEBP", quality=int(rng.integers(40, 96)), method=2)
    return _pixels(Image.open(data).convert("RGB"))


def local_contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Raise local contrast by 20 to 80 percent, over 4 to 16 pixels, as cameras of telephones do."""
    smooth = np.asarray(_image(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(4, 16))), np.float32)
    return to_bytes(pixels + np.float32(rng.uniform(0.2, 0.8)) * (pixels - smooth))


def rotate(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Rotate by up to 5 degrees, bicubic; what lies beyond the edges is mirrored."""
    # 5 degrees move the corner by less than a twentieth of the longer side.
    margin = min(max(16, math.ceil(0.05 * max(pixels.shape[:2]))), *pixels.shape[:2])
    wider = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    turned = _pixels(_image(wider).rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC))
    return turned[margin:-margin, margin:-margin]


def sharpen(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Apply an unsharp mask of radius 0.5 to 2.5 pixels and 50 to 200 percent."""
    return _pixels(_image(pixels).filter(ImageFilter.UnsharpMask(rng.uniform(0.5, 2.5), int(rng.integers(50, 200)), 0)))


def blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Blur with a Gaussian of 0.3 to 1.2 pixels."""
    return _pixels(_image(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2))))


def denoise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Filter with a 3x3 median, mixed with the photo at 50 to 100 percent."""
    share = np.float32(rng.uniform(0.5, 1.0))
    median = np.asarray(_image(pixels).filter(ImageFilter.MedianFilter(3)), np.float32)
    return to_bytes(pixels + share * (median - pixels))


def beauty(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Smooth what is flat and keep edges, as beauty filters do to skin."""
    values = pixels.astype(np.float32)
    smooth = np.asarray(_image(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4))), np.float32)
    apart = np.abs(values - smooth).mean(2, keepdims=True) / np.float32(rng.uniform(6, 15))
    return to_bytes(values + np.exp(-(apart**2)) * np.float32(rng.uniform(0.5, 1)) * (smooth - values))


def grain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise of 1 to 9 grey levels, in colour or not."""
    channels = 1 if rng.random() < 0.5 else 3
    return to_bytes(pixels + rng.normal(0, rng.uniform(1, 9), (*pixels.shape[:2], channels)).astype(np.float32))


def grey(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001  (all changes are called alike)
    """Convert to grey."""
    return to_bytes(np.repeat((pixels.astype(np.float32) @ _LUMA)[..., None], 3, axis=2))


def tone(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Change gamma, contrast and brightness."""
    values = 255 * (pixels.astype(np.float32) / 255) ** np.float32(rng.uniform(0.6, 1.6))
    return to_bytes((values - 128) * np.float32(rng.uniform(0.7, 1.4)) + np.float32(128 + rng.uniform(-30, 30)))


def soften(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrink to 40 to 90 percent and enlarge to the old size: a photo that was small once."""
    small = _image(scale(pixels, rng.uniform(0.4, 0.9), rng))
    return _pixels(small.resize((pixels.shape[1], pixels.shape[0]), _FILTERS[rng.integers(len(_FILTERS))]))


def enlarge(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Enlarge by 1.2 to 2."""
    return scale(pixels, rng.uniform(1.2, 2), rng)


def resize(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Resize by 0.5 to 1.5."""
    return scale(pixels, float(np.exp(rng.uniform(np.log(0.5), np.log(1.5)))), rng)


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut up to a tenth off each side; what was saved as JPEG loses its grid."""
    top, bottom, left, right = (int(rng.integers(1 + side // 10)) for side in np.repeat(pixels.shape[:2], 2))
    return pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]


def screenshot(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Scale to a screen by 0.7 to 1.6, with a display's gamma and saturation, losslessly."""
    scaled = scale(pixels, rng.uniform(0.7, 1.6), rng).astype(np.float32)
    shown = 255 * (scaled / 255) ** np.float32(rng.uniform(0.93, 1.07))
    middle = (shown @ _LUMA)[..., None]
    return to_bytes(middle + (shown - middle) * np.float32(rng.uniform(0.9, 1.1)))


def _named(*changes: Change) -> Mapping[str, Change]:
    return MappingProxyType({change.__name__.replace("_", "-"): change for change in changes})


CHANGES = _named(
    *(jpeg, mild_jpeg, jpeg_twice, sharpen, blur, denoise, beauty, grain, grey, tone),
    *(soften, enlarge, resize, crop, screenshot, encoder_jpeg, webp, local_contrast, rotate),
)
"""All augmentations by name."""

ODD = (
    *("jpeg", "jpeg-twice", "sharpen", "denoise", "beauty", "enlarge", "soften", "grain", "screenshot", "grey"),
    *("webp", "local-contrast", "rotate", "resize"),
)
"""Applied to clean photos as hard negatives of the detector."""

SURVIVED = ("mild-jpeg", "resize", "crop", "screenshot")
"""Applied to cloaked photos, whose cloak should still be detected."""

BEFORE = ("jpeg", "sharpen", "blur", "denoise", "beauty", "grain", "grey", "tone", "soften", "local-contrast", "webp")
"""Applied before cloaking; they move no pixel."""

AFTER = (
    *("jpeg", "mild-jpeg", "jpeg-twice", "sharpen", "blur", "denoise", "beauty", "grain", "grey", "tone", "crop"),
    *("encoder-jpeg", "webp", "local-contrast", "rotate", "soften"),
)
"""Applied after cloaking; scaling is drawn separately."""

MISTAKEN = ("sharpen", "local-contrast", "rotate")
"""Of these, what clean photos are most often taken for cloaked after."""
