"""Random differentiable views of photos (JPEG, resizing, blur, misalignment), for cloaks that survive an upload.

Attacks optimise the expectation over transformations, EOT (Athalye et al. 2018, arXiv 1707.07397). Importing this
module does not import torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from _toolio.errors import UsageError, param

if TYPE_CHECKING:
    import torch

if TYPE_CHECKING:
    View = Callable[[torch.Tensor], torch.Tensor]

QUALITIES = (50, 95)
"""JPEG qualities that are drawn from, both included."""

FACTORS = (0.5, 1.5)
"""Factors by which a photo is resized before it is brought back to its size."""

LARGEST_SIGMA_PX = 1.5
"""Largest standard deviation of a blur."""

LARGEST_SHIFT, LARGEST_ZOOM, LARGEST_TURN_DEGREES = 0.03, 0.05, 2.0
"""Largest misalignment of ``crop``: shift as a share of the region's shorter side, change of scale, rotation."""

# ITU-T T.81, annex K, tables K.1 and K.2: steps for quality 50, row by row.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)


def jpeg(photos: torch.Tensor, quality: int) -> torch.Tensor:
    """Compress and decompress as JPEG, differentiably: 4:2:0 chroma, the tables of T.81's annex K.

    Coefficients are rounded as JPEG rounds them and samples as 8-bit encoders and decoders do; the gradient is that
    without rounding (straight-through). The result is within 0.6/255 of Pillow's, mean absolute difference.

    Parameters
    ----------
    photos
        float32 [B, 3, H, W] in [0, 1].
    quality
        1 to 100.

    Returns
    -------
    float32 [B, 3, H, W]
        In [0, 1].
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    height, width = photos.shape[-2:]
    to_ycc, to_rgb = _colours(photos.device)
    # Whole blocks of 16: the last line is repeated, as encoders do.
    photos = F.pad(photos, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = _rounded(torch.einsum("dc,bchw->bdhw", to_ycc, photos * 255))
    luma, chroma = ycc[:, :1] - 128, _rounded(F.avg_pool2d(ycc[:, 1:], 2))
    luma, chroma = (
        _rounded(_quantise(part, _steps(quality, n, photos.device))) for n, part in enumerate((luma, chroma))
    )
    # Bilinear at twice the size is what decoders call fancy upsampling.
    chroma = _rounded(F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False))
    rgb = _rounded(torch.einsum("dc,bchw->bdhw", to_rgb, torch.cat([luma + 128, chroma], 1)))
    return (rgb[:, :, :height, :width] / 255).clamp(0, 1)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """Round with a straight-through gradient."""
    return x + (x.round() - x).detach()


@lru_cache(4)
def _colours(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrices of JFIF from RGB to YCbCr, chroma around 0, and back, [3, 3]."""
    import torch

    with torch.inference_mode(False):
        red, green, blue = 0.299, 0.587, 0.114
        luma = torch.tensor([red, green, blue], dtype=torch.float64)
        unit = torch.eye(3, dtype=torch.float64)
        to_ycc = torch.stack([luma, (unit[2] - luma) / (2 - 2 * blue), (unit[0] - luma) / (2 - 2 * red)])
        return to_ycc.float().to(device), to_ycc.inverse().float().to(device)


@lru_cache(256)
def _steps(quality: int, plane: int, device: torch.device) -> torch.Tensor:
    """Return the quantisation steps of luma (0) or chroma (1) as the Independent JPEG Group scales them, [8, 8]."""
    import torch

    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    rows = [[min(255, max(1, (step * percent + 50) // 100)) for step in row] for row in (_LUMA, _CHROMA)[plane]]
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=torch.float32, device=device)


@lru_cache(4)
def _cosines(device: torch.device) -> torch.Tensor:
    """Return the orthonormal 8-point DCT-II, [8, 8]."""
    import torch

    rows = [[math.cos(math.pi * (2 * x + 1) * k / 16) / 2 for x in range(8)] for k in range(8)]
    with torch.inference_mode(False):
        matrix = torch.tensor(rows, dtype=torch.float64)
        matrix[0] /= math.sqrt(2)
        return matrix.float().to(device)


def _quantise(planes: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Quantise the 8x8 DCT of [B, C, H, W] to multiples of the steps."""
    cosines = _cosines(planes.device)
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    rounded = _rounded((cosines @ blocks @ cosines.T) / steps)
    back = cosines.T @ (rounded * steps) @ cosines
    return back.transpose(3, 4).reshape(planes.shape)


def resize(photos: torch.Tensor, factor: float) -> torch.Tensor:
    """Resize [B, 3, H, W] by a factor and back, antialiased bilinear both times."""
    import torch.nn.functional as F  # noqa: N812

    height, width = photos.shape[-2:]
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    other = F.interpolate(photos, size, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(other, (height, width), mode="bilinear", antialias=True, align_corners=False)


def blur(photos: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Blur [B, 3, H, W] with a Gaussian, edges reflected."""
    from facetools.perceptual.blur import smooth

    return smooth(photos, 2 * math.ceil(3 * sigma_px) + 1, sigma_px)


def move(
    photos: torch.Tensor, *, right: float = 0.0, down: float = 0.0, zoom: float = 1.0, turn_degrees: float = 0.0
) -> torch.Tensor:
    """Transform [B, 3, H, W] by a similarity about its centre; edges are replicated.

    Parameters
    ----------
    photos
        float32 [B, 3, H, W].
    right, down
        Shift, as a share of the shorter side.
    zoom
        How much larger it gets.
    turn_degrees
        Clockwise.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    height, width = photos.shape[-2:]
    shorter = min(height, width)
    cosine, sine = (f(math.radians(turn_degrees)) / zoom for f in (math.cos, math.sin))
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width)), indexing="ij"
    )
    x, y = x - right * shorter, y - down * shorter
    # Where each pixel comes from, from pixels about the centre to the [-1, 1] of grid_sample.
    spot = torch.stack([(cosine * x + sine * y) * 2 / width, (cosine * y - sine * x) * 2 / height], -1)
    grid = spot.to(photos).expand(len(photos), -1, -1, -1)
    return F.grid_sample(photos, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _draw_jpeg(draw: random.Random) -> View:
    return partial(jpeg, quality=draw.randint(*QUALITIES))


def _draw_resize(draw: random.Random) -> View:
    return partial(resize, factor=draw.uniform(*FACTORS))


def _draw_blur(draw: random.Random) -> View:
    # Steps of a tenth: each width's matrices are computed once.
    return partial(blur, sigma_px=draw.randint(1, round(LARGEST_SIGMA_PX * 10)) / 10)


def _draw_crop(draw: random.Random) -> View:
    # Cutting a photo's borders off leaves the face as it is; what changes is where the finder sees the landmarks.
    return partial(
        move,
        right=draw.uniform(-LARGEST_SHIFT, LARGEST_SHIFT),
        down=draw.uniform(-LARGEST_SHIFT, LARGEST_SHIFT),
        zoom=1 + draw.uniform(-LARGEST_ZOOM, LARGEST_ZOOM),
        turn_degrees=draw.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES),
    )


_DRAWS: dict[str, Callable[[random.Random], View]] = {
    "jpeg": _draw_jpeg,
    "resize": _draw_resize,
    "blur": _draw_blur,
    "crop": _draw_crop,
}

NAMES = tuple(_DRAWS)
"""The views there are. ``jpeg``: quality 50 to 95, 4:2:0. ``resize``: to 0.5 to 1.5 times the size and back.
``blur``: Gaussian of up to 1.5 pixels. ``crop``: the face is found again in a cropped photo, a little elsewhere: a
similarity of up to 3% shift, 5% scale and 2 degrees."""


def parse_views(text: str) -> tuple[str, ...]:
    """Parse names of views, separated by commas; duplicates are dropped, "" is none.

    Raises
    ------
    UsageError
        There is no such view; the message lists all.
    """
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in names:
        if name not in _DRAWS:
            raise UsageError(f"{param('views')} {text}: no view is called {name}; choose from {', '.join(NAMES)}")
    return names


class RandomViews:
    """Transform each photo of a batch by a random view, which may be the identity.

    A photo's view depends on its seed and on the number of calls before, not on the rest of the batch.

    Parameters
    ----------
    names
        Of ``NAMES``. These and the identity are equally likely.
    seeds
        One for each of B photos.
    sizes
        Height and width of each photo that lies in the upper left of its plane; the rest is padding and becomes 0.
        None: there is no padding.
    """

    def __init__(
        self, names: Sequence[str], seeds: Sequence[int], sizes: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._kinds: list[Callable[[random.Random], View] | None] = [None, *(_DRAWS[name] for name in names)]
        self._draws = [random.Random(seed) for seed in seeds]  # noqa: S311 - no secret
        self._sizes = sizes

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """Transform float32 [m * B, 3, H, W] in [0, 1]; each of m versions gets its own view."""
        import torch

        shown = [self._show(photo[None], number % len(self._draws)) for number, photo in enumerate(photos)]
        return torch.cat(shown) if shown else photos

    def _show(self, photo: torch.Tensor, number: int) -> torch.Tensor:
        import torch.nn.functional as F  # noqa: N812

        padded_height, padded_width = photo.shape[-2:]
        height, width = self._sizes[number] if self._sizes else (padded_height, padded_width)
        draw = self._draws[number]
        kind = draw.choice(self._kinds)
        inside = photo[:, :, :height, :width]
        shown = kind(draw)(inside) if kind else inside
        return F.pad(shown, (0, padded_width - width, 0, padded_height - height))
