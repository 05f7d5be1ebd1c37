"""Read what a photo's file holds besides 8-bit RGB pixels: orientation, EXIF, colour profile, JPEG tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from facetools.photos.containers import png_chunks, riff_chunks

if TYPE_CHECKING:
    from PIL import Image

OTHER_COLOURS = ("CMYK", "LAB", "HSV")
"""Modes of images whose colour profile does not fit the RGB that is written."""

PNG_COLOURS = ("cHRM", "gAMA", "sRGB", "cICP")
"""Chunks of a PNG that say how its colours are shown; kept."""

_LOSSLESS_TIFF = ("tiff_lzw", "tiff_adobe_deflate", "packbits")

KEPT_TIFF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432)
"""What a TIFF says of the photo and not of how its pixels are stored: title, camera, resolution, date, people."""

_TIFF_DIRECTORIES = (0x8769, 0x8825)

_ORIENTATION_TAG = 0x0112


def orientations(image: Image.Image) -> tuple[int, int]:
    """Return the orientation that a loaded image is shown with, and the one in the EXIF that is kept, 1 to 8.

    They differ if it stands in XMP only, or in a TIFF's tag, which Pillow has applied and removed by now.
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


def save_options(image: Image.Image, file_format: str, data: bytes = b"") -> dict[str, Any]:
    """Return what belongs to the file besides its pixels: EXIF, colour profile, resolution, JPEG tables.

    From ``data``, the file's bytes, come what a PNG says of its colours, and whether a WebP is lossless.
    """
    options: dict[str, Any] = {}
    exif = _exif_of_tiff(image) if image.format == "TIFF" else image.info.get("exif")
    if isinstance(exif, bytes) and exif:
        options["exif"] = exif
    # A profile of other colours would be wrong for the RGB that is written.
    if isinstance(image.info.get("icc_profile"), bytes) and image.mode not in OTHER_COLOURS:
        options["icc_profile"] = image.info["icc_profile"]
    if file_format == "JPEG":
        from PIL import JpegImagePlugin

        # In order, without gaps: a file may number its tables 1 and 3, but not be written so.
        options["qtables"] = [table for _, table in sorted(getattr(image, "quantization", {}).items())] or None
        sampling = JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1
        if sampling >= 0:
            options["subsampling"] = sampling
        options["progressive"] = bool(image.info.get("progressive", False))
    if file_format == "HEIF":
        options |= _heif_options(image.info)
    if file_format != "TIFF" and (dpi := image.info.get("dpi")):  # a TIFF has it among its tags
        options["dpi"] = dpi
    if file_format == "PNG":
        options["png_chunks"] = [part for part in png_chunks(data)[0] if part.name in PNG_COLOURS] or None
    if file_format == "WEBP" and _is_lossless_webp(data):
        options["lossless"] = True
    if file_format == "TIFF" and image.info.get("compression") in _LOSSLESS_TIFF:
        options["compression"] = image.info["compression"]
    return {key: value for key, value in options.items() if value is not None}


def _is_lossless_webp(data: bytes) -> bool:
    """Return whether the photo, or the first frame of an animation, is coded without loss."""
    for name, payload in riff_chunks(data)[0]:
        if name in ("VP8L", "VP8 "):
            return name == "VP8L"
        if name == "ANMF":  # 16 bytes about the frame, then its own chunks
            return payload[16:20] == b"VP8L"
    return False


def _heif_options(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Return how a HEIF photo's colours are coded."""
    coding = info.get("nclx_profile") or {}
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
    options: dict[str, Any] = {"coding": {name: int(coding[name]) for name in names if name in coding}}
    options["chroma"] = info.get("chroma")
    # Only who wants every pixel back codes RGB as it is, which is matrix 0. (Beside an ICC profile no file says so.)
    options["lossless"] = options["coding"].get("matrix_coefficients") == 0 and options["chroma"] in (None, 444)
    if options["lossless"]:
        options["chroma"] = 444  # grey with alpha comes as RGBA, and tells of none
    return options


def _exif_of_tiff(image: Image.Image) -> bytes:
    """Return the descriptive tags of a TIFF as EXIF; empty if there are none, or if they are damaged."""
    from PIL import Image

    try:
        told, kept = image.getexif(), Image.Exif()
        kept.update({tag: told[tag] for tag in KEPT_TIFF_TAGS if tag in told})
        for directory in _TIFF_DIRECTORIES:
            if tags := told.get_ifd(directory):
                kept.get_ifd(directory).update(tags)
                kept[directory] = 0  # a place that is filled in when it is written
        return kept.tobytes() if len(kept) else b""
    except Exception:  # damaged tags raise whatever their writer stumbles on
        return b""
