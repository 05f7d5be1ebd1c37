"""Notes on what of a photo's file three channels of 8 bits and the metadata that are kept do not hold."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from facetools.photos.containers import (
    JPEG_START,
    MOST_PICTURES,
    Part,
    boxes,
    items_of,
    jpeg_segments,
    jpegs_behind,
    png_chunks,
    riff_chunks,
)
from facetools.photos.metadata import KEPT_TIFF_TAGS, OTHER_COLOURS, PNG_COLOURS
from facetools.photos.photo import ONE_OF_SEVERAL

if TYPE_CHECKING:
    from PIL import Image

_DEEP = "more than 8 bits a channel reduced to 8"
_FRAME, _MAIN, _PAGE = ONE_OF_SEVERAL
_VIDEO, _SOUND, _GAIN_MAP, _DEPTH = "video removed", "sound removed", "gain map removed", "depth map removed"
_PICTURES, _PREVIEWS = "further pictures of the file removed", "previews removed"
_CREDENTIALS, _PROFILE, _LAYERS = "content credentials removed", "colour profile removed", "layers removed"
_BEHIND, _IPTC, _PHOTOSHOP = "data behind the picture removed", "IPTC removed", "Photoshop data removed"

COLOURS_REMOVED = "colour description removed"
"""Note on primaries or a transfer function of no standard photo, which the file that is written does not name."""

# Notes on a photo, and names in one: files made to do harm hold any number of kinds of parts.
_MOST_NOTES, _MOST_NAMES = 64, 32

# The zeros before the first one may have been taken for padding.
_MOVIE = re.compile(rb"(?:\A|\0\0\0)[\x08-\x80]ftyp(?:isom|iso\d|mp4\d|avc1|qt  |M4V |3gp\d|MSNV|heic|hvc1)")
_GAIN_MAPS = (b"http://ns.adobe.com/hdr-gain-map/", b"HDRGainMap", b"urn:iso:std:iso:ts:21496:-1")
_IN_XMP = {b"GDepth:": _DEPTH, b"GAudio:": _SOUND, b"GImage:": _PICTURES}


def losses(image: Image.Image, data: bytes) -> list[str]:
    """Return notes on what of a loaded image is lost in three channels of 8 bits, and what of its file is not kept.

    They may matter for what a cloak hides: a place, a name, a picture of the clean face.
    """
    walk, notes = _WALKS.get(_container(image), _pixels_alone), list[str]()
    try:
        for note in chain(_frames(image), _reductions(image, data), walk(image, data)):
            notes.append(note)
    except (IndexError, ValueError, struct.error):  # damaged beyond what its decoder minds
        notes.append("metadata that cannot be read removed")
    notes = list(dict.fromkeys(notes))
    more = notes[_MOST_NOTES:]
    return [*notes[:_MOST_NOTES], f"{len(more)} further losses"] if more else notes


def _container(image: Image.Image) -> str:
    return {"MPO": "JPEG", "CUR": "ICO", "ICNS": "ICO", "DIB": "BMP", "AVIF": "HEIF"}.get(
        image.format or "", image.format or ""
    )


def _frames(image: Image.Image) -> Iterator[str]:
    # Pillow counts frames by opening each, in time that grows with the square of their number.
    if image.format in ("MPO", "PSD") or not getattr(image, "is_animated", False):
        return
    pages = {"HEIF": _MAIN, "TIFF": _PAGE, "DCX": _PAGE, "FITS": _PAGE, "SPIDER": _PAGE, "MIC": _PAGE, "IM": _PAGE}
    yield pages.get(image.format or "", _FRAME)


def _reductions(image: Image.Image, data: bytes) -> Iterator[str]:
    """Yield what is lost of the pixels."""
    if image.mode in OTHER_COLOURS:
        dropped = ", without its colour profile" if image.info.get("icc_profile") else ""
        yield f"{image.mode} read as RGB{dropped}"
    if image.mode == "1":
        yield "1 bit read as grey"
    if image.mode in ("P", "PA"):
        yield "palette read as RGB"
    if image.mode == "RGBX":
        yield "fourth channel removed"
    if image.mode in ("I", "F") or image.mode.startswith("I;16") or _is_deep(image, data):
        yield _DEEP
    if image.info.get("depth_images"):
        yield _DEPTH
    if image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"):
        yield "XMP removed"
    if image.format in ("JPEG", "MPO", "GIF") and image.info.get("comment"):  # elsewhere it names the program
        yield "comment removed"
    if any(key != "XML:com.adobe.xmp" for key in getattr(image, "text", {})):
        yield "texts removed"


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
    return image.format == "SGI" and data[3] == 2  # bytes a channel


def _pixels_alone(_: Image.Image, __: bytes) -> Iterator[str]:
    """Yield what is said of a format that is read for its pixels alone."""
    yield "nothing but the pixels kept"


def _behind(rest: bytes) -> Iterator[str]:
    """Yield what follows the end of a picture: phones append videos and sounds to photos."""
    rest = rest.lstrip(b"\0\r\n")
    if not rest:
        return
    known = [note for note, there in ((_VIDEO, _MOVIE.search(rest)), (_SOUND, _has_sound(rest))) if there]
    yield from known or [_BEHIND]


def _has_sound(rest: bytes) -> bool:
    return b"SoundShot" in rest or re.search(rb"RIFF.{4}WAVE", rest, re.DOTALL) is not None


def _in_jpeg(image: Image.Image, data: bytes) -> Iterator[str]:
    segments, end = jpeg_segments(data)
    yield from _segments(segments)
    others, rest = jpegs_behind(data, end)
    for other in others:
        yield _GAIN_MAP if any(sign in part.payload for part in other for sign in _GAIN_MAPS) else _PICTURES
    if not others and getattr(image, "n_frames", 1) > 1:
        yield _PICTURES
    if rest.startswith(JPEG_START):
        yield f"further pictures after the first {MOST_PICTURES} removed unseen"
    yield from _behind(rest)


def _segments(segments: Iterable[Part]) -> Iterator[str]:
    unknown = []
    for name, payload in segments:
        sign = payload.partition(b"\0")[0][:40]
        if name == "APP1" and sign.startswith(b"http://ns.adobe.com/xmp/extension"):
            yield "XMP removed"
        if name == "APP1" and sign.startswith(b"http://ns.adobe.com/x"):
            yield from (note for key, note in _IN_XMP.items() if key in payload)
        elif name == "APP0" and (sign == b"JFXX" or (sign == b"JFIF" and any(payload[12:14]))):
            yield _PREVIEWS
        elif name == "APP11" and payload[:2] == b"JP":
            yield _CREDENTIALS
        elif name == "APP13" and sign.startswith(b"Photoshop"):
            yield _IPTC if b"8BIM\x04\x04" in payload else _PHOTOSHOP
        elif not _is_kept(name, sign):
            label = re.sub(rb"[^ -~].*", b"", sign, flags=re.DOTALL).decode("ascii").strip()
            unknown.append(f"{name} {label}".strip())
    yield from _listed("segments", dict.fromkeys(unknown))


def _is_kept(name: str, sign: bytes) -> bool:
    """Return whether a segment is kept, describes how the file is coded, or has been told of: comments, gain maps."""
    signs: dict[str, tuple[bytes, ...]] = {"APP0": (b"JFIF",), "APP1": (b"Exif",), "APP14": (b"Adobe",)}
    signs["APP2"] = (b"ICC_PROFILE", b"MPF", b"urn:iso:std:iso:ts:21496:-1")
    return name == "COM" or sign.startswith(signs.get(name, (b"\0\0",)))


_PNG_KNOWN = {"IHDR", "PLTE", "IEND", "tRNS", "pHYs", "eXIf", "iCCP", "acTL", "fcTL", "iDOT", *PNG_COLOURS}


def _in_png(_: Image.Image, data: bytes) -> Iterator[str]:
    chunks, end = png_chunks(data)
    names = dict.fromkeys(part.name for part in chunks)
    if "caBX" in names:
        yield _CREDENTIALS
    yield from _listed("chunks", (name for name in names if name not in (*_PNG_KNOWN, "tEXt", "zTXt", "iTXt", "caBX")))
    yield from _behind(data[end:])


def _in_webp(_: Image.Image, data: bytes) -> Iterator[str]:
    chunks, end = riff_chunks(data)
    names = dict.fromkeys(part.name for part in chunks)
    if "C2PA" in names:
        yield _CREDENTIALS
    known = ("VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "ICCP", "EXIF", "XMP ", "C2PA")
    yield from _listed("chunks", (name for name in names if name not in known))
    yield from _behind(data[end:])


def _in_gif(image: Image.Image, data: bytes) -> Iterator[str]:
    if b"XMP DataXMP" in data and not image.info.get("xmp"):
        yield "XMP removed"
    if b"ICCRGBG1012" in data:
        yield _PROFILE


def _in_bmp(_: Image.Image, data: bytes) -> Iterator[str]:
    start = 14 if data[:2] == b"BM" else 0
    size = int.from_bytes(data[start : start + 4], "little")
    if size >= 124 and data[start + 56 : start + 60] in (b"DEBM", b"KNIL"):  # embedded, linked
        yield _PROFILE


def _in_ppm(image: Image.Image, data: bytes) -> Iterator[str]:
    words = 3 - (data[1:2] in b"14")
    head = re.match(rb"P[1-6]((?:(?:\s|#[^\n]*\n)+\d+){%d})\s" % words, data)
    if head is None:
        return
    if b"#" in head[1]:
        yield "comment removed"
    channels = 3 if data[1:2] == b"6" else 1
    row = image.width * channels * (2 if _is_deep(image, data) else 1) if data[1:2] in b"56" else (image.width + 7) // 8
    if data[1:2] in b"456" and re.match(rb"\s*P[1-7]\s", data[head.end() + row * image.height :]):
        yield _PICTURES


# How pixels are stored: not a loss. XMP is told of; 330 and what follows it have notes of their own.
_STORAGE_TAGS = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 297, 301, 317, 318, 319, 320, 322, 323, 324, 325, 332, 334, 338, 339, 340, 341, 347, 512, 513, 514, 515,
    517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 34665, 34675, 34853, 40965,
}  # fmt: skip
_TOLD_TAGS = {330: _PICTURES, 33723: _IPTC, 34377: _PHOTOSHOP, 37724: _LAYERS}


def _in_tiff(image: Image.Image, _: bytes) -> Iterator[str]:
    from PIL import TiffTags

    tags = set(getattr(image, "tag_v2", {}))
    yield from (note for tag, note in _TOLD_TAGS.items() if tag in tags)
    others = sorted(tags - _STORAGE_TAGS - set(KEPT_TIFF_TAGS) - set(_TOLD_TAGS))
    names = (TiffTags.lookup(tag).name for tag in others)
    yield from _listed(
        "tags", (str(tag) if name == "unknown" else name for tag, name in zip(others, names, strict=True))
    )


_PLAIN_BOXES = {"ftyp", "meta", "mdat", "free", "skip", "wide", "idat"}


def _in_heif(image: Image.Image, data: bytes) -> Iterator[str]:
    """Yield what HEIF and AVIF hold besides one picture."""
    outer, items = list(boxes(data)), items_of(data)
    names = dict.fromkeys(box.name for box in outer)
    if "mpvd" in names or ("moov" in names and not getattr(image, "is_animated", False)):
        yield _VIDEO
    if "uuid" in names or "jumb" in names:
        yield _CREDENTIALS
    for urn in sorted(items.auxiliary):
        if urn.endswith(("alpha", "auxid:1")):
            continue
        gain, depth = "gainmap" in urn.lower(), urn.endswith(("depth", "auxid:2"))
        yield _GAIN_MAP if gain else _DEPTH if depth else f"auxiliary picture removed ({urn.rpartition(':')[2][:40]})"
    if "tmap" in items.kinds:
        yield _GAIN_MAP
    if "thmb" in items.references:
        yield _PREVIEWS
    if {"clli", "mdcv", "cclv", "amve"} & items.properties:
        yield "brightness of its display removed"
    if "udes" in items.properties or items.mimes - {"application/rdf+xml"}:
        yield "texts removed"
    if image.format == "AVIF" and any(map(is_unusual, items.codes)):  # it is written as PNG
        yield COLOURS_REMOVED
    known = _PLAIN_BOXES | {"mpvd", "moov", "uuid", "jumb"}
    yield from _listed("boxes", (name for name in names if name not in known))


def is_unusual(codes: tuple[int, int]) -> bool:
    """Return whether primaries and transfer (ITU-T H.273) differ from what files that name none are shown with."""
    primaries, transfer = codes
    return primaries not in (1, 2) or transfer not in (1, 2, 6, 13)


_XMP_BOX, _EXIF_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), b"JpgTiffExif->JP2"


def _in_jpeg2000(image: Image.Image, data: bytes) -> Iterator[str]:
    for box in boxes(data) if data[4:8] == b"jP  " else ():
        if box.name == "jp2h":
            inner = (
                data[each.start : each.start + 1] for each in boxes(data, box.start, box.end) if each.name == "colr"
            )
            if any(method in b"\2\3" for method in inner) and not image.info.get("icc_profile"):
                yield _PROFILE
        elif box.name == "uuid":
            kind = data[box.start : box.start + 16]
            yield {_XMP_BOX: "XMP removed", _EXIF_BOX: "EXIF removed"}.get(kind, "boxes removed: uuid")
        elif box.name not in ("jP  ", "ftyp", "jp2c", "free"):
            yield f"boxes removed: {box.name.strip()}"


def _in_icon(image: Image.Image, data: bytes) -> Iterator[str]:
    sizes = image.info.get("sizes") or ()
    if len(sizes) > 1 or (image.format == "CUR" and int.from_bytes(data[4:6], "little") > 1):
        yield "other sizes of the icon removed"


_PSD_RESOURCES = {1028: _IPTC, 1033: _PREVIEWS, 1036: _PREVIEWS, 1058: "EXIF removed", 1059: "EXIF removed",
                  1060: "XMP removed"}  # fmt: skip


def _in_psd(image: Image.Image, data: bytes) -> Iterator[str]:
    layers: Any = getattr(image, "layers", ())
    if len(layers):
        yield _LAYERS
    if int.from_bytes(data[12:14], "big") > len(image.getbands()):
        yield "further channels removed"
    for number, *_ in getattr(image, "resources", ()):
        if number != 1039:  # the colour profile
            yield _PSD_RESOURCES.get(number, _PHOTOSHOP)


def _listed(what: str, names: Iterable[str]) -> Iterator[str]:
    remaining = iter(names)
    listed = list(islice(remaining, _MOST_NAMES))
    more = sum(1 for _ in remaining)
    if listed:
        yield f"{what} removed: {', '.join(listed)}{f' and {more} more' if more else ''}"


_WALKS: dict[str, Callable[[Image.Image, bytes], Iterator[str]]] = {
    "JPEG": _in_jpeg,
    "PNG": _in_png,
    "WEBP": _in_webp,
    "GIF": _in_gif,
    "BMP": _in_bmp,
    "PPM": _in_ppm,
    "TIFF": _in_tiff,
    "HEIF": _in_heif,
    "JPEG2000": _in_jpeg2000,
    "ICO": _in_icon,
    "PSD": _in_psd,
}
"""Formats whose files are walked for what is not kept; of any other the pixels alone are."""
