"""Decode one photo and find its faces."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.streams.inputs import read_input
from facetools.faces.search import FaceSearch

if TYPE_CHECKING:
    from facetools.faces.face import Face
    from facetools.faces.finder import Finder
    from facetools.photos.photo import Pixels


def read_photo(path: Path | str) -> Pixels:
    """Decode a photo, upright: its first frame, in 8 bits.

    Parameters
    ----------
    path
        Any file that Pillow reads; HEIC where ``pillow-heif`` is installed.

    Returns
    -------
    uint8 [H, W, 3]
        RGB.

    Raises
    ------
    InputError
        The file cannot be read, or is no photo.
    """
    from facetools.photos.codec import decode_photo

    return decode_photo(read_input(str(path)), str(path)).pixels


def find_faces(
    photo: Path | str | Pixels,
    *,
    min_face_px: float | None = None,
    min_confidence: float | None = None,
    rotations: bool = False,
    device: str = "auto",
) -> list[Face]:
    """Find the faces of a photo with MTCNN, as the commands do.

    Parameters
    ----------
    photo
        A file, or uint8 [H, W, 3] RGB.
    min_face_px
        Side of the smallest face that is searched for, pixels; None chooses it by the photo's size, 20 or more.
    min_confidence
        Least confidence of a face, 0 to 1; None: that of the commands, 0.7.
    rotations
        Search the photo rotated by 90, 180 and 270 degrees too, and not only where no sure face is found.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Networks stay loaded.

    Returns
    -------
    list of Face
        With box, confidence and landmarks; the largest first, empty if there is none.

    Raises
    ------
    InputError
        The file cannot be read, or is no photo.
    ToolError
        There is no such device.
    """
    pixels = read_photo(photo) if isinstance(photo, Path | str) else photo
    search = FaceSearch(min_confidence=min_confidence, rotations=rotations)
    return _finder(device, search).find([pixels], min_face_px=min_face_px)[0]


@lru_cache(maxsize=4)
def _finder(device: str, search: FaceSearch) -> Finder:
    from _toolio.compute.device import pick_device

    return search.open_finder(pick_device(device))
