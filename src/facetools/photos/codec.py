"""Decode photos and re-encode them preserving format and metadata."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from _toolio.errors import InputError, in_one_line, param
from _toolio.tensors.foreign import POINTER
from facetools.photos.exif import without_previews
from facetools.photos.losses import losses
from facetools.photos.metadata import orientations, save_options
from facetools.photos.photo import Photo, Pixels, to_bytes
from facetools.photos.quiet import silence_pillow
from facetools.photos.writing import KEEP_ALPHA, options_for

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 400_000_000
"""Maximum number of pixels: 400 megapixels take 1.2 GB as RGB."""

SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "HEIF": ".heic",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
}
"""The formats that are written, and the extension appended to a name whose own does not fit."""

_STRIP_ROWS = 256


WRITTEN_AS_PNG = " is written as PNG"
"""End of the note on a photo in a format that is not written."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


_ENDINGS = {
    "HEIF": {".heic", ".heif", ".hif", ".heics", ".heifs"},
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pnm"},
}


_PROGRAMS = {"EPS", "WMF"}
"""Formats that Pillow reads by running another program: refused, because inputs are untrusted."""


def decode_photo(data: bytes, path: str) -> Photo:
    """Decode a photo of any format that Pillow reads.

    Of an animation the first frame is taken; 16-bit channels are reduced to 8; CMYK and palettes become RGB.
    HEIC needs the extra ``heif``.

    Parameters
    ----------
    data
        The file's bytes.
    path
        Its name, for messages.

    Raises
    ------
    InputError
        kind ``empty-file``, ``not-a-photo``, ``truncated``, ``too-large``, ``no-memory`` or ``needs-extra``.
    """
    if not data:
        raise InputError(f"{path}: the file is empty", kind="empty-file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _load(data, path)
        try:
            return _decode(image, data)
        except MemoryError:
            raise no_room(path) from None
        except (OSError, ValueError, IndexError, OverflowError) as error:
            raise _damaged(path, error) from None


def _load(data: bytes, path: str) -> Image.Image:
    """Decode a whole file with Pillow."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # it refuses what has more than twice this many
    too_large = InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down", kind="too-large")
    no_photo = InputError(f"{path}: {_said_of(data)}", kind="not-a-photo")
    if _is_heif(data):
        _open_heif(f"{path}: a HEIC photo")
    silence_pillow()
    try:
        image = Image.open(io.BytesIO(data))
        if image.format in _PROGRAMS:
            raise no_photo
        if image.width * image.height > MAX_PIXELS:
            raise too_large
        image.load()
    except InputError:
        raise
    except UnidentifiedImageError:
        raise no_photo from None
    except Image.DecompressionBombError:
        raise too_large from None
    except MemoryError:
        raise no_room(path) from None
    except Exception as error:  # a damaged file makes its decoder stumble over anything
        raise _damaged(path, error) from None
    return image


def _said_of(data: bytes) -> str:
    """Return what a file is that is no photo, and what to do about it, where it is known by its first bytes."""
    start = data[:64].lstrip().lower()
    if start.startswith(POINTER):
        return "a Git LFS pointer, and no photo; fetch it with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, and no photo; download it again, or if it is the URL of a folder, end it in /"
    if data[257:262] == b"ustar":
        return f"a tar archive, and no photo; name it by {param('inputs')} to read what is in it"
    return "not a photo in a format that can be read"


def _is_heif(data: bytes) -> bool:
    """Return whether the brands of the first box are those of HEIF; those of AVIF are not."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    known = {brands[start : start + 4] for start in range(0, len(brands), 4)}
    return bool(known & _HEIF_BRANDS) or (brands[:4] == b"mif1" and not known & {b"avif", b"avis"})


def _open_heif(what: str) -> None:
    """Register HEIF with Pillow; InputError if the extra is missing."""
    try:
        import pillow_heif
    except ImportError:
        message = f"{what}; it needs the extra heif: pip install 'epsilon-tools[heif]'"
        raise InputError(message, kind="needs-extra") from None
    pillow_heif.register_heif_opener()


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(f"{path}: the photo is truncated or damaged ({in_one_line(error)})", kind="truncated")


def no_room(path: str) -> InputError:
    """Return the error of a photo that memory does not suffice for."""
    return InputError(f"{path}: too little memory for so large a photo; scale it down", kind="no-memory")


def _decode(image: Image.Image, data: bytes) -> Photo:
    file_format = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
    options, notes = save_options(image, file_format, data), losses(image, data)
    shown, kept = orientations(image)
    upright = _turn(_to_8_bits(image), shown, _READ)
    if upright is not image:
        image.close()  # 4 bytes a pixel that nobody needs any more
    grey = upright.mode in ("1", "L", "LA", "La")
    if upright.mode in ("PA", "La", "RGBa") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
    # "A" is a colour of LAB.
    alpha = np.asarray(upright.getchannel("A")) if upright.mode in ("LA", "RGBA") else None
    pixels = _to_array(upright)
    if "exif" in options and (bare := without_previews(options["exif"])) != options["exif"]:
        options["exif"] = bare
        notes.append("previews in the EXIF removed")
    if file_format not in SUFFIXES:
        notes.append(f"{file_format}{WRITTEN_AS_PNG}")
        file_format = "PNG"
    return Photo(pixels, file_format, grey, alpha, kept, options, tuple(notes))


def _to_array(image: Image.Image) -> Pixels:
    """Copy an image's pixels as RGB, strip by strip: at once Pillow would copy them three times on the way."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert("RGB"))
    return pixels


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16- and 32-bit grey to 8 bits; Pillow's own conversion would clip it to white."""
    from PIL import Image

    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        values = (values - low) * (255 / (high - low) if high > low else 0)
    elif image.mode != "I" or image.format == "PPM" or values.max(initial=0) > 255:
        values = values / max(257, values.max(initial=0) / 255)
    return Image.fromarray(to_bytes(values))


_LARGEST_JPEG_PX = 65_500


def encode_photo(
    photo: Photo,
    pixels: Pixels,
    *,
    file_format: str | None = None,
    quality: int | None = None,
    strip_gps: bool = False,
) -> bytes:
    """Encode pixels as the photo was: format, EXIF, colour profile, alpha, orientation, JPEG tables.

    XMP, captions inside a PNG and previews are not kept.

    Parameters
    ----------
    photo
        The photo that the pixels were made from.
    pixels
        uint8 [H, W, 3], RGB, upright, of the photo's size.
    file_format
        A key of ``SUFFIXES``; None keeps the photo's own.
    quality
        JPEG, WebP and HEIF quality, 1 to 100. None keeps a JPEG's own tables; a JPEG made from another format gets
        ``NEW_JPEG_QUALITY``, WebP and HEIF get ``GUESSED_QUALITY`` (or are lossless, if they were).
    strip_gps
        Remove the GPS tags of the EXIF; see ``Photo.has_gps``.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    InputError
        kind ``unwritable``: the format cannot hold a photo of this size, or its EXIF. ``needs-extra``: HEIF
        without the extra ``heif``.
    """
    from PIL import Image

    kind = file_format or photo.format
    if kind == "HEIF":
        _open_heif("a photo is to be written as HEIC")
    image = Image.fromarray(pixels)
    if photo.grey:
        image = image.getchannel("G")
    if photo.alpha is not None and kind in KEEP_ALPHA:
        image.putalpha(Image.fromarray(photo.alpha))
    options = options_for(photo, kind, quality, strip_gps)
    if "exif" in options:
        # Back to how the pixels lay in the file, so that its EXIF stays true.
        image = _turn(image, photo.orientation, _LAY_BACK)
    if kind == "WEBP" and image.mode == "L":
        image = image.convert("RGB")
    if kind == "JPEG" and max(image.size) > _LARGEST_JPEG_PX:
        # libjpeg would say so on stderr too.
        raise InputError(
            f"the photo cannot be written as JPEG ({_LARGEST_JPEG_PX} pixels a side at most); try "
            f"{param('file_format')} png",
            kind="unwritable",
        )
    out = io.BytesIO()
    try:
        image.save(out, format=kind, **options)
    except (OSError, ValueError, TypeError, RuntimeError, struct.error) as error:  # odd EXIF, on TIFF's way out
        raise InputError(
            f"the photo cannot be written as {kind} ({in_one_line(error)}); try {param('file_format')} png",
            kind="unwritable",
        ) from None
    return out.getvalue()


# Names of PIL's transpositions: how to set a photo of each EXIF orientation upright, and how to undo that.
_READ = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_LAY_BACK = {**_READ, 6: "ROTATE_90", 8: "ROTATE_270"}


def _turn(image: Image.Image, orientation: int, ways: Mapping[int, str]) -> Image.Image:
    from PIL import Image

    if orientation not in ways:
        return image
    turned = image.transpose(Image.Transpose[ways[orientation]])
    turned.info = image.info
    return turned


def fitting_name(name: str, file_format: str) -> str:
    """Return a file name whose extension fits the format: ``a.gif`` as PNG is ``a.gif.png``, so that no two collide."""
    suffix = SUFFIXES[file_format]
    ending = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return name if ending in _ENDINGS.get(file_format, {suffix}) else name + suffix
