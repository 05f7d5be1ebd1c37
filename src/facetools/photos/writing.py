"""How each format is written: save options that keep what a photo had, and notes on what the format does not hold."""

from __future__ import annotations

from typing import Any

from facetools.photos.exif import without_gps
from facetools.photos.losses import COLOURS_REMOVED, is_unusual
from facetools.photos.photo import Photo

KEEP_ALPHA = ("PNG", "WEBP", "TIFF", "HEIF")
"""The formats that hold transparency."""

KEEP_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF")
"""The formats that hold EXIF and a colour profile."""

KEEP_RESOLUTION = ("JPEG", "PNG", "BMP")
"""The formats that hold a resolution outside of EXIF and of a TIFF's tags."""

GUESSED_QUALITY = {"WEBP": 95, "HEIF": 90}
"""Default quality of formats whose files do not record theirs."""

NEW_JPEG_QUALITY = 95
"""Default quality of a JPEG made from another format."""

HEIF_PRESET = "medium"
"""Speed of the HEVC encoder x265. Its default, slow, takes twice the processor time, five times with colour at full
resolution, for files within 4% of the size and pixels no closer; ultrafast may write lossless files that none reads."""


def options_for(photo: Photo, kind: str, quality: int | None, strip_gps: bool) -> dict[str, Any]:
    """Return Pillow's save options for a photo in a format."""
    options = _kept(photo, "dpi") if kind in KEEP_RESOLUTION else {}
    if kind not in KEEP_EXIF:
        return options
    options |= _kept(photo, "exif", "icc_profile")
    if not _fits(photo, kind):
        del options["icc_profile"]
    if strip_gps and "exif" in options and (bare := without_gps(options.pop("exif"))):
        options["exif"] = bare
    if kind == photo.format:
        options |= _kept(photo, "compression")
    if kind == "PNG" and photo.format == "PNG":
        options |= _png_options(photo)
    lossless = photo.is_lossless(kind, quality)
    if kind == "JPEG":
        options |= _jpeg_options(photo, quality)
    elif kind == "WEBP":
        options |= {"lossless": True, "exact": True} if lossless else {"quality": quality or GUESSED_QUALITY[kind]}
    elif kind == "HEIF":
        options |= {"quality": -1 if lossless else quality or GUESSED_QUALITY[kind]}
        options |= photo.save_options.get("coding", {}) | _kept(photo, "chroma") | _encoder_speed()
    return options


def _png_options(photo: Photo) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, payload in photo.save_options.get("png_chunks", ()):
        chunks.add(name.encode(), payload)
    return {"pnginfo": chunks}


def _fits(photo: Photo, kind: str) -> bool:
    """Return whether the photo's colour profile fits the pixels as they are written: WebP has no grey."""
    return not (kind == "WEBP" and photo.save_options.get("icc_profile", b"")[16:20] == b"GRAY")


def losses_as(photo: Photo, kind: str, *, quality: int | None = None, strip_gps: bool = False) -> list[str]:
    """Return notes on what ``encode_photo`` with these arguments does not keep of a photo, besides its own ``notes``.

    Parameters
    ----------
    photo
        The photo.
    kind
        A key of ``SUFFIXES``.
    quality, strip_gps
        As ``encode_photo`` takes them.
    """
    notes, saved = [], photo.save_options
    if kind in GUESSED_QUALITY and quality is None and not photo.is_lossless(kind):
        notes.append(f"{kind} files do not tell their quality: saved with {GUESSED_QUALITY[kind]}")
    if photo.alpha is not None and kind not in KEEP_ALPHA:
        notes.append("transparency removed")
    if strip_gps and photo.has_gps:
        notes.append("GPS removed")
    if not _fits(photo, kind):
        notes.append("colour profile removed")
    if "dpi" in saved and kind != photo.format and kind not in KEEP_RESOLUTION:
        notes.append("resolution removed")
    if kind != photo.format and _has_unusual_colours(photo):
        notes.append(COLOURS_REMOVED)
    return notes


def _has_unusual_colours(photo: Photo) -> bool:
    """Return whether a PNG or HEIC says, outside of a colour profile, that its colours are no standard ones."""
    names = {part.name for part in photo.save_options.get("png_chunks", ())}
    coding = photo.save_options.get("coding", {})
    codes = coding.get("color_primaries", 2), coding.get("transfer_characteristics", 2)
    return "cICP" in names or (bool(names) and "sRGB" not in names) or is_unusual(codes)


def _encoder_speed() -> dict[str, Any]:
    """Return the option that sets the HEVC encoder's speed; nothing for another encoder than x265."""
    import pillow_heif

    is_x265 = str(pillow_heif.libheif_info().get("HEIF", "")).startswith("x265")
    return {"enc_params": {"preset": HEIF_PRESET}} if is_x265 else {}


def _kept(photo: Photo, *names: str) -> dict[str, Any]:
    return {name: photo.save_options[name] for name in names if name in photo.save_options}


def _jpeg_options(photo: Photo, quality: int | None) -> dict[str, Any]:
    tables = photo.save_options.get("qtables")
    if quality is not None or photo.format != "JPEG" or not tables:
        return {"quality": quality or NEW_JPEG_QUALITY, "subsampling": photo.save_options.get("subsampling", 0)}
    # A grey result needs one table, a colour one two: PIL refuses more tables than it can use.
    return _kept(photo, "qtables", "subsampling", "progressive")
