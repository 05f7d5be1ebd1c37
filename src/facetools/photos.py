"""Photos in and out: decoding whatever people have, and writing a changed photo back as it was."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 400_000_000
"""Larger photos are refused: 400 megapixels take 1.2 GB as RGB."""

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
"""The formats that are written, and the ending of a file whose own ending does not fit."""

_ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pnm"},
}

# Undo of PIL's reading of each EXIF orientation, so that pixels go back the way they lay in the file.
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo.

    Attributes
    ----------
    pixels
        uint8 [H, W, 3], RGB, upright (EXIF orientation applied).
    format
        The format that ``encode_photo`` writes unless told otherwise.
    grey
        The photo has one channel; ``pixels`` repeats it.
    alpha
        uint8 [H, W] or None.
    orientation
        EXIF orientation of the file, 1 to 8.
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


def decode_photo(data: bytes, path: str) -> Photo:
    """Decode a photo of any format that Pillow reads.

    Of an animation the first frame is taken; 16-bit channels are reduced to 8; CMYK and palettes become RGB.

    Parameters
    ----------
    data
        The file's bytes.
    path
        Its name, for messages.

    Raises
    ------
    InputError
        kind ``empty-file``, ``not-a-photo``, ``truncated`` or ``too-large``.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise InputError(f"{path}: the file is empty", kind="empty-file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a photo in a format that can be read", kind="not-a-photo") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down", kind="too-large"
        ) from None
    except (OSError, ValueError, SyntaxError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: not a whole photo ({_first_line(error)})", kind="truncated") from None
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down", kind="too-large")
    try:
        return _decode(image)
    except (OSError, ValueError, SyntaxError, IndexError, OverflowError, EOFError, MemoryError) as error:
        raise InputError(
            f"{path}: the photo is truncated or damaged ({_first_line(error)})", kind="truncated"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _decode(image: Image.Image) -> Photo:
    from PIL import ImageOps

    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes.append("first frame of an animation")
    file_format = {"MPO": "JPEG", "JPEG2000": "PNG"}.get(image.format or "", image.format or "")
    options = _save_options(image, file_format)
    orientation = _orientation(image)
    image.load()
    if image.mode == "CMYK":
        notes.append("CMYK read as RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        notes.append("more than 8 bits a channel reduced to 8")
    upright = ImageOps.exif_transpose(_to_8_bits(image))
    grey = upright.mode in ("1", "L", "LA")
    if upright.mode == "P" or upright.mode == "PA":
        upright = upright.convert("RGBA" if "transparency" in upright.info or upright.mode == "PA" else "RGB")
    alpha = np.asarray(upright.getchannel("A")) if "A" in upright.getbands() else None
    pixels = np.array(upright.convert("RGB"))
    if file_format not in SUFFIXES:
        notes.append(f"{file_format} is written as PNG")
        file_format = "PNG"
    return Photo(pixels, file_format, grey, alpha, orientation, options, tuple(notes))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF raises whatever its parser stumbles on
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _save_options(image: Image.Image, file_format: str) -> dict[str, Any]:
    """Collect what belongs to the file besides its pixels: EXIF, colour profile, JPEG tables."""
    options: dict[str, Any] = {}
    if isinstance(image.info.get("exif"), bytes):
        options["exif"] = image.info["exif"]
    # A CMYK profile would be wrong for the RGB that is written.
    if isinstance(image.info.get("icc_profile"), bytes) and image.mode != "CMYK":
        options["icc_profile"] = image.info["icc_profile"]
    if file_format == "JPEG":
        from PIL import JpegImagePlugin

        options["qtables"] = getattr(image, "quantization", None) or None
        sampling = JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1
        if sampling >= 0:
            options["subsampling"] = sampling
        options["progressive"] = bool(image.info.get("progressive", False))
    return {key: value for key, value in options.items() if value is not None}


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16- and 32-bit grey to 8 bits; Pillow's own conversion would clip it to white."""
    from PIL import Image

    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        values = (values - low) * (255 / (high - low) if high > low else 0)
    elif values.max(initial=0) > 255:
        values = values / 257
    reduced = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    reduced.info = dict(image.info)
    exif = image.getexif()
    if exif:
        reduced.getexif().update(exif)
    return reduced


def encode_photo(photo: Photo, pixels: Pixels, *, file_format: str | None = None, quality: int | None = None) -> bytes:
    """Write pixels back as the photo was: format, EXIF, colour profile, alpha, orientation, JPEG tables.

    Parameters
    ----------
    photo
        The photo that the pixels were made from.
    pixels
        uint8 [H, W, 3], RGB, upright, of the photo's size.
    file_format
        A key of ``SUFFIXES``; None keeps the photo's own.
    quality
        JPEG and WebP quality, 1 to 100. None keeps a JPEG's own tables, and gives WebP 90 and a JPEG
        made from another format 95.

    Returns
    -------
    bytes
        The file.
    """
    from PIL import Image

    kind = file_format or photo.format
    image = Image.fromarray(pixels)
    if photo.grey:
        image = image.getchannel("G")
    if photo.alpha is not None and kind in ("PNG", "WEBP", "TIFF"):
        image.putalpha(Image.fromarray(photo.alpha))
    image = _lay_back(image, photo.orientation)
    options: dict[str, Any] = {
        key: photo.save_options[key] for key in ("exif", "icc_profile") if key in photo.save_options
    }
    if kind == "JPEG":
        options |= _jpeg_options(photo, quality)
    elif kind == "WEBP":
        options["quality"] = quality or 90
    elif kind in ("BMP", "PPM"):
        options = {}
    if kind == "WEBP" and image.mode == "L":
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def _jpeg_options(photo: Photo, quality: int | None) -> dict[str, Any]:
    tables = photo.save_options.get("qtables")
    if quality is not None or photo.format != "JPEG" or not tables:
        return {"quality": quality or 95, "subsampling": photo.save_options.get("subsampling", 0)}
    # A grey result needs one table, a colour one two: PIL refuses more tables than it can use.
    return {
        key: photo.save_options[key] for key in ("qtables", "subsampling", "progressive") if key in photo.save_options
    }


def _lay_back(image: Image.Image, orientation: int) -> Image.Image:
    """Turn upright pixels back to how they lay in the file, so that its EXIF stays true."""
    from PIL import Image

    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(undo[orientation]) if orientation in undo else image


def fitting_name(name: str, file_format: str) -> str:
    """Give a file name whose ending fits the format: ``a.gif`` as PNG is ``a.gif.png``, so that no two collide."""
    suffix = SUFFIXES[file_format]
    ending = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return name if ending in _ENDINGS.get(file_format, {suffix}) else name + suffix
