"""Photos in and out: decoding whatever people have, and writing a changed photo back as it was."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError
from facetools.exif import without_previews

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 400_000_000
"""Larger photos are refused: 400 megapixels take 1.2 GB as RGB."""

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
"""The formats that are written, and the ending of a file whose own ending does not fit."""

KEEP_ALPHA = ("PNG", "WEBP", "TIFF")
"""The formats that hold transparency."""

_ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pnm"},
}

_ORIENTATION_TAG = 0x0112

_PROGRAMS = {"EPS", "WMF"}
"""What Pillow reads by running another program on it: no photo, and nothing to run for a stranger."""


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
    if not data:
        raise InputError(f"{path}: the file is empty", kind="empty-file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, notes = _load(data, path)
        try:
            return _decode(image, data, notes)
        except (OSError, ValueError, IndexError, OverflowError, MemoryError) as error:
            raise _damaged(path, error) from None


def _load(data: bytes, path: str) -> tuple[Image.Image, list[str]]:
    """Let Pillow read a whole file: the image, and what of the file it is not."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # it refuses what has more than twice this many
    too_large = InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down", kind="too-large")
    no_photo = InputError(f"{path}: not a photo in a format that can be read", kind="not-a-photo")
    try:
        image = Image.open(io.BytesIO(data))
        if image.format in _PROGRAMS:
            raise no_photo
        if image.width * image.height > MAX_PIXELS:
            raise too_large
        animated = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
        image.load()
    except InputError:
        raise
    except UnidentifiedImageError:
        raise no_photo from None
    except Image.DecompressionBombError:
        raise too_large from None
    except Exception as error:  # a damaged file makes its decoder stumble over anything
        raise _damaged(path, error) from None
    return image, ["first frame of an animation"] if animated else []


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(f"{path}: the photo is truncated or damaged ({_first_line(error)})", kind="truncated")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _decode(image: Image.Image, data: bytes, notes: list[str]) -> Photo:
    file_format = {"MPO": "JPEG", "JPEG2000": "PNG"}.get(image.format or "", image.format or "")
    options = _save_options(image, file_format)
    if file_format == "WEBP" and b"VP8L" in data:
        options["lossless"] = True
    if image.mode == "CMYK":
        notes.append("CMYK read as RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        notes.append("more than 8 bits a channel reduced to 8")
    shown, kept = _orientations(image)
    upright = _turn(_to_8_bits(image), shown, _READ)
    grey = upright.mode in ("1", "L", "LA", "La")
    if upright.mode in ("PA", "La", "RGBa") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
    alpha = np.asarray(upright.getchannel("A")) if "A" in upright.getbands() else None
    pixels = np.array(upright.convert("RGB"))
    if options.get("exif") != image.info.get("exif"):
        notes.append("previews in the EXIF removed")
    if file_format not in SUFFIXES:
        notes.append(f"{file_format} is written as PNG")
        file_format = "PNG"
    return Photo(pixels, file_format, grey, alpha, kept, options, tuple(notes))


def _orientations(image: Image.Image) -> tuple[int, int]:
    """Give the orientation that a loaded image is shown with, and the one that the EXIF which is kept tells.

    They differ where only XMP tells it, or a TIFF's tag, which Pillow has obeyed and removed by now.
    """
    from PIL import Image

    def tell(exif: Callable[[], Image.Exif]) -> int:
        try:
            value = exif().get(_ORIENTATION_TAG, 1)
        except Exception:  # damaged EXIF raises whatever its parser stumbles on
            return 1
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    def in_file() -> Image.Exif:
        exif = Image.Exif()
        if isinstance(image.info.get("exif"), bytes):
            exif.load(image.info["exif"])
        return exif

    shown = tell(image.getexif)
    return shown, shown if tell(in_file) == shown else 1


def _save_options(image: Image.Image, file_format: str) -> dict[str, Any]:
    """Collect what belongs to the file besides its pixels: EXIF, colour profile, JPEG tables."""
    options: dict[str, Any] = {}
    if isinstance(image.info.get("exif"), bytes):
        options["exif"] = without_previews(image.info["exif"])
    # A CMYK profile would be wrong for the RGB that is written.
    if isinstance(image.info.get("icc_profile"), bytes) and image.mode != "CMYK":
        options["icc_profile"] = image.info["icc_profile"]
    if file_format == "JPEG":
        from PIL import JpegImagePlugin

        # In order, without gaps: a file may number its tables 1 and 3, but not be written so.
        options["qtables"] = [table for _, table in sorted(getattr(image, "quantization", {}).items())] or None
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
    elif image.mode != "I" or image.format == "PPM" or values.max(initial=0) > 255:
        values = values / max(257, values.max(initial=0) / 255)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


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

    Raises
    ------
    InputError
        kind ``unwritable``: the format cannot hold a photo of this size, or its EXIF.
    """
    from PIL import Image

    kind = file_format or photo.format
    image = Image.fromarray(pixels)
    if photo.grey:
        image = image.getchannel("G")
    if photo.alpha is not None and kind in KEEP_ALPHA:
        image.putalpha(Image.fromarray(photo.alpha))
    options: dict[str, Any] = {
        key: photo.save_options[key] for key in ("exif", "icc_profile") if key in photo.save_options
    }
    if kind == "JPEG":
        options |= _jpeg_options(photo, quality)
    elif kind == "WEBP":
        lossless = quality is None and photo.save_options.get("lossless", False)
        options |= {"lossless": True, "exact": True} if lossless else {"quality": quality or 90}
    elif kind in ("BMP", "PPM"):
        options = {}
    if "exif" in options:
        # Back to how the pixels lay in the file, so that its EXIF stays true.
        image = _turn(image, photo.orientation, _LAY_BACK)
    if kind == "WEBP" and image.mode == "L":
        image = image.convert("RGB")
    out = io.BytesIO()
    try:
        image.save(out, format=kind, **options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the photo cannot be written as {kind} ({_first_line(error)}); try --format png", kind="unwritable"
        ) from None
    return out.getvalue()


def _jpeg_options(photo: Photo, quality: int | None) -> dict[str, Any]:
    tables = photo.save_options.get("qtables")
    if quality is not None or photo.format != "JPEG" or not tables:
        return {"quality": quality or 95, "subsampling": photo.save_options.get("subsampling", 0)}
    # A grey result needs one table, a colour one two: PIL refuses more tables than it can use.
    return {
        key: photo.save_options[key] for key in ("qtables", "subsampling", "progressive") if key in photo.save_options
    }


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
    """Give a file name whose ending fits the format: ``a.gif`` as PNG is ``a.gif.png``, so that no two collide."""
    suffix = SUFFIXES[file_format]
    ending = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return name if ending in _ENDINGS.get(file_format, {suffix}) else name + suffix
