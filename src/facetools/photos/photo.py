"""Decoded photos: pixels and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facetools.photos.exif import without_gps

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]

_NEVER_LOSSY = ("PNG", "TIFF", "BMP", "PPM")

ONE_OF_SEVERAL = ("first frame of an animation", "main photo of several", "first page of several")
"""Notes on a file that holds more than ``Photo.pixels`` show."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo.

    Attributes
    ----------
    pixels
        uint8 [H, W, 3], RGB, upright (EXIF orientation applied).
    format
        The format that ``encode_photo`` writes by default.
    grey
        The photo has one channel; ``pixels`` repeats it.
    alpha
        uint8 [H, W] or None.
    orientation
        How the pixels lie in the file, an EXIF orientation, 1 to 8; 1 where the EXIF that is kept does not say.
    notes
        What could not be kept, for the record.
    """

    pixels: Pixels
    format: str
    grey: bool = False
    alpha: Pixels | None = None
    orientation: int = 1
    save_options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def is_lossless(self, file_format: str | None = None, quality: int | None = None) -> bool:
        """Return whether ``encode_photo`` with these arguments is lossless."""
        kind = file_format or self.format
        return kind in _NEVER_LOSSY or (
            kind == self.format and quality is None and bool(self.save_options.get("lossless"))
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Notes on the part of the file that ``pixels`` show, if it holds more."""
        return tuple(note for note in self.notes if note in ONE_OF_SEVERAL)

    @property
    def has_gps(self) -> bool:
        """Whether the EXIF has GPS tags, or is too damaged to know."""
        exif = self.save_options.get("exif", b"")
        return bool(without_gps(exif) != exif)


def same_shape(one: Pixels, other: Pixels) -> bool:
    """Return whether two photos have the same aspect ratio, up to rounding or 1%."""
    (height, width), (other_height, other_width) = one.shape[:2], other.shape[:2]
    expected = width * other_height / height
    return bool(abs(other_width - expected) <= max(1 + width / height, 0.01 * expected))


_THUMBNAIL = 32

_TURNED = 3.0
"""A copy is turned if it differs this many times less once it is turned back; a cloak moves no thumbnail so far."""

_ALIKE = 8.0
"""Grey levels, the mean difference of thumbnails of two photos that are laid alike."""


def is_turned(one: Pixels, other: Pixels) -> bool:
    """Return whether two photos of one shape show the same, but one is turned or mirrored.

    So does a copy whose program turned the pixels and kept the EXIF orientation, or dropped that and turned nothing.
    """
    from PIL import Image

    first, second = (
        np.asarray(Image.fromarray(pixels).convert("L").resize((_THUMBNAIL, _THUMBNAIL)), np.float64)
        for pixels in (one, other)
    )
    apart = float(np.abs(first - second).mean())
    if apart <= _ALIKE:
        return False
    ways = [np.rot90(each, turns) for each in (second, second[:, ::-1]) for turns in range(4)][1:]
    if abs(one.shape[0] - one.shape[1]) > 0.01 * max(one.shape[:2]):
        ways = [second[::-1, ::-1], second[::-1], second[:, ::-1]]
    return min(float(np.abs(first - way).mean()) for way in ways) * _TURNED < apart


def scale_to(pixels: Pixels, like: Pixels) -> Pixels:
    """Resize a photo to the size of another (Lanczos)."""
    from PIL import Image

    resized = Image.fromarray(pixels).resize((like.shape[1], like.shape[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def to_bytes(values: npt.NDArray[Any]) -> Pixels:
    """Round values, 0 to 255, to the nearest whole number (a half to the even one) and clip them to uint8."""
    whole: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole


def add_change(pixels: Pixels, change: npt.NDArray[np.float32]) -> Pixels:
    """Add a change to a photo: the one place where a cloak becomes pixels again.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3]; stays as it is.
    change
        float32 [H, W, 3], in the units of ``pixels``: 1 is one grey level.

    Returns
    -------
    uint8 [H, W, 3]
        Rounded once, after the change was added, and clipped to 0 to 255.
    """
    return to_bytes(pixels + change)


def as_tensor(pixels: npt.NDArray[Any], device: torch.device | None = None) -> torch.Tensor:
    """Convert uint8 or float32 [H, W, 3], 0 to 255, to float32 [1, 3, H, W] in [0, 1] on a device; None is the CPU."""
    import torch

    planes = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None]
    # In place, as a large photo takes 12 bytes a pixel; but never in the caller's own floats.
    return planes / 255 if planes.is_floating_point() else planes.float().div_(255)
