"""Read what a photo's file holds besides 8-bit RGB pixels: orientation, EXIF, colour profile, JPEG tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_DEEP = "more than 8 bits a channel reduced to 8"

_OTHER_COLOURS = ("CMYK", "LAB", "HSV")

_LOSSLESS_TIFF = ("tiff_lzw", "tiff_adobe_deflate", "packbits")

# What a TIFF says of the photo and not of how its pixels are stored: title, camera, resolution, date, people.
_TIFF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432)

_TIFF_DIRECTORIES = (0x8769, 0x8825)

_ORIENTATION_TAG = 0x0112


def reductions(image: Image.Image, data: bytes) -> list[str]:
    """Return notes on what of a loaded image is lost in three channels of 8 bits."""
    notes = []
    if image.mode in _OTHER_COLOURS:
        dropped = ", without its colour profile" if image.info.get("icc_profile") else ""
        notes.append(f"{image.mode} read as RGB{dropped}")
    if image.mode == "1":
        notes.append("1 bit read as grey")
    if image.mode in ("P", "PA"):
        notes.append("palette read as RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16") or _is_deep(image, data):
        notes.append(_DEEP)
    if image.info.get("depth_images"):
        notes.append("depth map removed")
    if image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
        notes.append("further pictures of the file removed")
    # They may tell what a cloak hides: a place, a name, a picture of the clean face.
    texts = {"xmp": "XMP", "XML:com.adobe.xmp": "XMP"}
    if image.format in ("JPEG", "MPO", "GIF"):  # elsewhere it names the program
        texts["comment"] = "comment"
    notes += dict.fromkeys(f"{name} removed" for key, name in texts.items() if image.info.get(key))
    if any(key not in texts for key in getattr(image, "text", {})):
        notes.append("texts removed")
    return notes


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Return whether colour has more than 8 bits a channel, which Pillow silently reduces to 8."""
    if image.format == "PNG":
        return data[24] > 8  # IHDR: width, height, bit depth
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, ())  # BitsPerSample
        return any(each > 8 for each in (bits if isinstance(bits, tuple) else (bits,)) if isinstance(each, int))
    if image.format == "PPM":
        # Magic, width, height, largest value, with comments between them.
        head = re.match(rb"P[2356](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)", data)
        return head is not None and int(head[1]) > 255
    if image.format == "HEIF":
        return bool(image.info.get("bit_depth", 8) > 8)
    if image.format == "JPEG2000":
        start = data.find(b"\xff\x4f\xff\x51")  # SOC and SIZ; the first component's depth is 42 bytes on
        return start >= 0 and (data[start + 42] & 0x7F) + 1 > 8
    if image.format == "AVIF":
        start = data.find(b"av1C")
        return start >= 0 and bool(data[start + 6] & 0x40)  # high_bitdepth
    return False


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


def save_options(image: Image.Image, file_format: str) -> dict[str, Any]:
    """Return what belongs to the file besides its pixels: EXIF, colour profile, JPEG tables."""
    options: dict[str, Any] = {}
    exif = _exif_of_tiff(image) if image.format == "TIFF" else image.info.get("exif")
    if isinstance(exif, bytes) and exif:
        options["exif"] = exif
    # A profile of other colours would be wrong for the RGB that is written.
    if isinstance(image.info.get("icc_profile"), bytes) and image.mode not in _OTHER_COLOURS:
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
    if file_format in ("JPEG", "PNG") and (dpi := image.info.get("dpi")):
        options["dpi"] = dpi
    if file_format == "TIFF" and image.info.get("compression") in _LOSSLESS_TIFF:
        options["compression"] = image.info["compression"]
    return {key: value for key, value in options.items() if value is not None}


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
        kept.update({tag: told[tag] for tag in _TIFF_TAGS if tag in told})
        for directory in _TIFF_DIRECTORIES:
            if tags := told.get_ifd(directory):
                kept.get_ifd(directory).update(tags)
                kept[directory] = 0  # a place that is filled in when it is written
        return kept.tobytes() if len(kept) else b""
    except Exception:  # damaged tags raise whatever their writer stumbles on
        return b""
