"""How changed photos are saved: name, format, quality, metadata.

Importing this module imports neither numpy nor Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from facetools.photos.formats import Format

if TYPE_CHECKING:
    from facetools.photos.photo import Photo, Pixels


@dataclass(frozen=True, slots=True)
class Saving:
    """How changed photos are saved.

    Attributes
    ----------
    file_format, quality, strip_gps
        As ``facetools.photos.codec.encode_photo`` takes them.
    suffix
        Added to the name's stem.
    copy_faceless
        Photos without a face are copied.
    """

    file_format: str | None = None
    quality: int | None = None
    strip_gps: bool = False
    suffix: str = ""
    copy_faceless: bool = False

    @classmethod
    def to_format(cls, file_format: Format, **more: Any) -> Saving:
        """Return how photos are saved in a format of the command line; ``more`` are the other attributes."""
        return cls(None if file_format is Format.keep else file_format.value.upper(), **more)

    def name(self, relative: str, file_format: str) -> str:
        """Return the output's path below the output folder."""
        from facetools.photos.codec import fitting_name

        path = PurePosixPath(relative)
        return fitting_name(str(path.with_name(f"{path.stem}{self.suffix}{path.suffix}")), file_format)

    def encode(self, photo: Photo, pixels: Pixels) -> bytes:
        """Encode pixels, uint8 [H, W, 3], as the photo was, or in ``file_format``; returns the file's bytes."""
        from facetools.photos.codec import encode_photo

        return encode_photo(photo, pixels, file_format=self.file_format, quality=self.quality, strip_gps=self.strip_gps)
