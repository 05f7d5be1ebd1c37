"""What a photo's file holds and the one that is written does not is noted, container by container.

Pillow (with pillow-heif) writes the files, or a few bytes are added to them as phones do, and reads what is kept.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

from conftest import faceless, saved
from facetools.photos.codec import decode_photo, encode_photo
from facetools.photos.losses import losses

PHOTO = faceless((40, 32))
OTHER = faceless((40, 32), seed=1)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- a caption --></x:xmpmeta>'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MOVIE = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x10moov" + bytes(8)
SAMSUNG = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + MOVIE + b"SEFH" + bytes(12) + b"\x18\0\0\0SEFT"
DEEP = "more than 8 bits a channel reduced to 8"
ALONE = "nothing but the pixels kept"


def exif(*, thumbnail: bool = False) -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    data = tags.tobytes()
    return data + saved(OTHER.resize((16, 12)), "JPEG") if thumbnail else data


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def jpeg(*segments: bytes, behind: bytes = b"", **options: Any) -> bytes:
    data = saved(PHOTO, "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:] + behind


def gain_map(sign: bytes = b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"') -> bytes:
    return saved(OTHER.convert("L"), "JPEG", xmp=b"<x:xmpmeta " + sign + b"/>")


def png(*chunks: tuple[bytes, bytes], behind: bytes = b"", image: Image.Image = PHOTO, **options: Any) -> bytes:
    data = saved(image, "PNG", **options)
    more = b"".join(
        struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
        for name, payload in chunks
    )
    return data[:33] + more + data[33:] + behind  # IHDR ends there


def text() -> PngInfo:
    texts = PngInfo()
    texts.add_text("Author", "somebody")
    return texts


def webp(name: bytes = b"", payload: bytes = b"", image: Image.Image = PHOTO, **options: Any) -> bytes:
    data = saved(image, "WEBP", **options)
    data += name + struct.pack("<I", len(payload)) + payload if name else b""
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def tiff(image: Image.Image = PHOTO, tags: dict[int, Any] | None = None, **options: Any) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        directory.tagtype[tag] = 7 if isinstance(value, bytes) else 12 if isinstance(value, float) else 2
        directory[tag] = value
    return saved(image, "TIFF", tiffinfo=directory, **options)


def bmp_with_profile() -> bytes:
    pixels = saved(PHOTO, "BMP")[54:]
    header = struct.pack("<IiiHHIIiiII", 124, 40, 32, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16) + b"DEBM"
    header += bytes(124 - len(header))
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels), 0, 0, 14 + 124) + header + pixels


def heif(replaced: bytes = b"", by: bytes = b"", image: Image.Image = PHOTO, **options: Any) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = saved(image, "HEIF", **options)
    assert replaced in data
    return data.replace(replaced, by)


def avif(replaced: bytes = b"", by: bytes = b"", image: Image.Image = PHOTO, **options: Any) -> bytes:
    data = saved(image, "AVIF", speed=10, **options)
    assert len(by) == len(replaced)
    assert replaced in data
    return data.replace(replaced, by)


ALPHA_IN_HEIF, ALPHA_IN_AVIF = b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"


def clear(share: int = 100) -> Image.Image:
    image = PHOTO.copy()
    image.putalpha(Image.new("L", image.size, share))
    return image


def jp2(name: bytes = b"", payload: bytes = b"", image: Image.Image = PHOTO) -> bytes:
    data = saved(image, "JPEG2000")
    return data + (struct.pack(">I", len(payload) + 8) + name + payload if name else b"")


def cur() -> bytes:
    icon = bytearray(saved(PHOTO.resize((32, 32)), "ICO", sizes=[(32, 32), (16, 16)], bitmap_format="bmp"))
    icon[2] = 2
    return bytes(icon)


def icns() -> bytes:
    """Write two sizes; Pillow writes up to 1024 pixels."""
    sizes = {b"icp4": 16, b"icp5": 32}
    parts = {kind: saved(PHOTO.resize((side, side)), "PNG") for kind, side in sizes.items()}
    listed = b"".join(kind + struct.pack(">I", len(part) + 8) + part for kind, part in parts.items())
    return b"icns" + struct.pack(">I", len(listed) + 8) + listed


def psd(*, layer: bool = False, resource: tuple[int, bytes] | None = None, channels: int = 3) -> bytes:
    data = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, 32, 40, 8, 3) + struct.pack(">I", 0)
    listed = b""
    if resource:
        number, payload = resource
        listed = b"8BIM" + struct.pack(">H2xI", number, len(payload)) + payload + bytes(len(payload) % 2)
    data += struct.pack(">I", len(listed)) + listed
    records = b""
    if layer:
        planes = b"".join(struct.pack(">hI", number, 3) for number in range(3))
        extra = struct.pack(">II", 0, 0) + b"\x03abc"
        record = struct.pack(">iiiiH", 0, 0, 1, 1, 3) + planes + b"8BIMnorm\xff\0\0\0" + struct.pack(">I", len(extra))
        records = struct.pack(">h", 1) + record + extra + (b"\0\0\x05") * 3
        records += bytes(len(records) % 2)
        records = struct.pack(">I", len(records)) + records + struct.pack(">I", 0)
    data += struct.pack(">I", len(records)) + records + struct.pack(">H", 0)
    planes = np.asarray(PHOTO).transpose(2, 0, 1).tobytes() + bytes(40 * 32 * (channels - 3))
    return data + planes


def deep_png() -> bytes:
    values = np.random.default_rng(0).integers(0, 65536, (32, 40, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 40, 32, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
        for name, payload in parts
    )


def dcx() -> bytes:
    pages = [saved(each, "PCX") for each in (PHOTO, OTHER)]
    offsets = [16, 16 + len(pages[0])]
    return struct.pack("<IIII", 0x3ADE68B1, *offsets, 0) + b"".join(pages)


IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 12) + b"\x1c\x02\x50\0\x07someone"
PNG_TOO = "is written as PNG"
CASES: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "JPEG": (lambda: jpeg(exif=exif(), icc_profile=PROFILE, dpi=(240, 240), progressive=True), ()),
    "JPEG preview": (lambda: jpeg(exif=exif(thumbnail=True)), ("previews in the EXIF removed",)),
    "JPEG XMP, comment": (lambda: jpeg(xmp=XMP, comment=b"at home"), ("XMP removed", "comment removed")),
    "JPEG CMYK": (lambda: saved(PHOTO.convert("CMYK"), "JPEG"), ("CMYK read as RGB",)),
    "JPEG motion photo of Google": (lambda: jpeg(behind=MOVIE), ("video removed",)),
    "JPEG motion photo of Samsung": (lambda: jpeg(behind=SAMSUNG), ("video removed",)),
    "JPEG Ultra HDR": (lambda: jpeg(behind=gain_map()), ("gain map removed",)),
    "JPEG gain map of Apple": (lambda: jpeg(behind=gain_map(b"apple:HDRGainMap")), ("gain map removed",)),
    "JPEG Ultra HDR in motion": (
        lambda: jpeg(behind=gain_map() + bytes(40) + MOVIE),
        ("gain map removed", "video removed"),
    ),
    "JPEG gain map of ISO": (
        lambda: jpeg(segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)), behind=gain_map(b"")[:2]
                     + segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(40)) + gain_map(b"")[2:]),
        ("gain map removed",),
    ),
    "JPEG sound": (lambda: jpeg(behind=b"\0\0\0\1SoundShot_000" + bytes(9)), ("sound removed",)),
    "JPEG sound as WAV": (lambda: jpeg(behind=b"RIFF\x24\0\0\0WAVEfmt "), ("sound removed",)),
    "JPEG something behind": (lambda: jpeg(behind=b"PK\3\4secret"), ("data behind the picture removed",)),
    "JPEG many pictures": (
        lambda: jpeg(behind=gain_map() * 70),
        ("gain map removed", "further pictures after the first 64 removed unseen", "data behind the picture removed"),
    ),
    "JPEG many segments": (
        lambda: jpeg(*(segment(0xE5, f"{number:02}\0".encode()) for number in range(40))),
        (f"segments removed: {', '.join(f'APP5 {number:02}' for number in range(32))} and 8 more",),
    ),
    "JPEG padding": (lambda: jpeg(behind=bytes(999)), ()),
    "JPEG restart markers": (lambda: jpeg(restart_marker_blocks=1, quality=100), ()),
    "JPEG depth, sound, original in XMP": (
        lambda: jpeg(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"GDepth:Data GAudio:Data GImage:Data")),
        ("XMP removed", "depth map removed", "sound removed", "further pictures of the file removed"),
    ),
    "JPEG IPTC": (lambda: jpeg(segment(0xED, IPTC)), ("IPTC removed",)),
    "JPEG content credentials": (lambda: jpeg(segment(0xEB, b"JP\0\1" + bytes(30))), ("content credentials removed",)),
    "JPEG JFXX": (lambda: jpeg(segment(0xE0, b"JFXX\0\x10" + bytes(30))), ("previews removed",)),
    "JPEG FPXR": (lambda: jpeg(segment(0xE2, b"FPXR\0\1\2")), ("segments removed: APP2 FPXR",)),
    "MPO": (
        lambda: saved(PHOTO, "MPO", save_all=True, append_images=[OTHER]),
        ("further pictures of the file removed",),
    ),
    "PNG": (lambda: png(exif=exif(), icc_profile=PROFILE, dpi=(240, 240)), ()),
    "PNG alpha": (lambda: png(image=clear()), ()),
    "PNG gamma": (lambda: png((b"gAMA", struct.pack(">I", 100000)), (b"cHRM", bytes(range(32)))), ()),
    "PNG HDR": (lambda: png((b"cICP", bytes((9, 16, 0, 1)))), ()),
    "PNG 16 bit": (deep_png, (DEEP,)),
    "PNG texts": (lambda: png(pnginfo=text()), ("texts removed",)),
    "PNG chunks": (lambda: png((b"bKGD", bytes(6)), (b"tIME", bytes(7))), ("chunks removed: bKGD, tIME",)),
    "PNG content credentials": (lambda: png((b"caBX", bytes(9))), ("content credentials removed",)),
    "PNG something behind": (lambda: png(behind=b"IDAT of old"), ("data behind the picture removed",)),
    "PNG APNG": (lambda: png(save_all=True, append_images=[OTHER]), ("first frame of an animation",)),
    "PNG palette": (lambda: png(image=PHOTO.quantize(16)), ("palette read as RGB",)),
    "WEBP": (lambda: webp(exif=exif(), icc_profile=PROFILE, quality=80), ()),
    "WEBP alpha": (lambda: webp(image=clear(), lossless=True, exact=True), ()),
    "WEBP XMP": (lambda: webp(xmp=XMP), ("XMP removed",)),
    "WEBP chunk": (lambda: webp(b"C2PA", b"cred", xmp=XMP), ("XMP removed", "content credentials removed")),
    "WEBP another chunk": (lambda: webp(b"NOTE", b"text", exif=exif()), ("chunks removed: NOTE",)),
    "WEBP animated": (lambda: webp(save_all=True, append_images=[OTHER]), ("first frame of an animation",)),
    "GIF": (lambda: saved(PHOTO, "GIF"), ("palette read as RGB", f"GIF {PNG_TOO}")),
    "GIF animated": (
        lambda: saved(PHOTO.quantize(8), "GIF", save_all=True, append_images=[OTHER.quantize(8)], comment=b"me"),
        ("first frame of an animation", "palette read as RGB", "comment removed", f"GIF {PNG_TOO}"),
    ),
    "TIFF": (lambda: tiff(tags={270: "a title"}, icc_profile=PROFILE, dpi=(240, 240), compression="tiff_lzw"), ()),
    "TIFF pages": (
        lambda: saved(PHOTO.copy(), "TIFF", save_all=True, append_images=[OTHER.copy()]),
        ("first page of several",),
    ),
    "TIFF CMYK": (lambda: tiff(PHOTO.convert("CMYK")), ("CMYK read as RGB",)),
    "TIFF floats": (lambda: tiff(PHOTO.convert("F")), (DEEP,)),
    "TIFF alpha": (lambda: tiff(clear()), ()),
    "TIFF XMP": (lambda: tiff(tags={700: XMP}), ("XMP removed",)),
    "TIFF IPTC and layers": (
        lambda: tiff(tags={33723: b"\x1c\x02\x50\0\1a", 37724: b"Adobe"}),
        ("IPTC removed", "layers removed"),
    ),
    "TIFF place and page": (
        lambda: tiff(tags={285: "page 1", 33550: 0.5}),
        ("tags removed: PageName, ModelPixelScaleTag",),
    ),
    "BMP": (lambda: saved(PHOTO, "BMP", dpi=(240, 240)), ()),
    "BMP profile": (bmp_with_profile, ("colour profile removed",)),
    "DIB": (lambda: saved(PHOTO, "DIB"), (f"DIB {PNG_TOO}",)),
    "PPM": (lambda: saved(PHOTO, "PPM"), ()),
    "PPM comment": (lambda: saved(PHOTO, "PPM").replace(b"P6\n", b"P6\n# me 9\n"), ("comment removed",)),
    "PPM two": (lambda: saved(PHOTO, "PPM") + saved(OTHER, "PPM"), ("further pictures of the file removed",)),
    "PGM two of 16 bit": (
        lambda: b"P5 2 1 65535\n" + bytes(4) + b"P5 2 1 65535\n" + bytes(4),
        (DEEP, "further pictures of the file removed"),
    ),
    "HEIF": (lambda: heif(exif=exif(), icc_profile=PROFILE), ()),
    "HEIF alpha": (lambda: heif(image=clear()), ()),
    "HEIF XMP": (lambda: heif(xmp=XMP), ("XMP removed",)),
    "HEIF several": (lambda: heif(save_all=True, append_images=[OTHER]), ("main photo of several",)),
    "HEIF preview": (lambda: heif(thumbnails=[16]), ("previews removed",)),
    "HEIF 10 bit": (lambda: heif(image=Image.fromarray(np.full((32, 40), 40_000, np.uint16))), (DEEP,)),
    "HEIF gain map": (
        lambda: heif(ALPHA_IN_HEIF, b"urn:apple:aux:hdrgainmap\0\0", image=clear()),
        ("gain map removed",),
    ),
    "HEIF matte": (
        lambda: heif(ALPHA_IN_HEIF, b"urn:apple:aux:skinmatte\0\0\0", image=clear()),
        ("auxiliary picture removed (skinmatte)",),
    ),
    "HEIF depth": (lambda: heif(ALPHA_IN_HEIF, ALPHA_IN_HEIF[:-1] + b"2", image=clear()), ("depth map removed",)),
    "HEIF motion photo": (lambda: heif() + b"\0\0\0\x30mpvd" + MOVIE, ("video removed",)),
    "HEIF maker's box": (lambda: heif() + b"\0\0\0\x0csefdtext", ("boxes removed: sefd",)),
    "AVIF": (lambda: avif(exif=exif(), icc_profile=PROFILE), (f"AVIF {PNG_TOO}",)),
    "AVIF alpha": (lambda: avif(image=clear()), (f"AVIF {PNG_TOO}",)),
    "AVIF XMP": (lambda: avif(xmp=XMP), ("XMP removed", f"AVIF {PNG_TOO}")),
    "AVIF animated": (
        lambda: avif(save_all=True, append_images=[OTHER]),
        ("first frame of an animation", f"AVIF {PNG_TOO}"),
    ),
    "AVIF gain map": (
        lambda: avif(ALPHA_IN_AVIF, b"urn:x:".ljust(32, b"x") + b":hdrgainmap", image=clear()),
        ("gain map removed", f"AVIF {PNG_TOO}"),
    ),
    "JPEG2000": (lambda: jp2(image=clear()), (f"JPEG2000 {PNG_TOO}",)),
    "JPEG2000 XMP": (
        lambda: jp2(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP),
        ("XMP removed", f"JPEG2000 {PNG_TOO}"),
    ),
    "JPEG2000 box": (lambda: jp2(b"xml ", b"<a/>"), ("boxes removed: xml", f"JPEG2000 {PNG_TOO}")),
    "ICO": (lambda: saved(PHOTO, "ICO", sizes=[(32, 32)]), (f"ICO {PNG_TOO}",)),
    "ICO sizes": (
        lambda: saved(PHOTO, "ICO", sizes=[(16, 16), (32, 32)]),
        ("other sizes of the icon removed", f"ICO {PNG_TOO}"),
    ),
    "CUR": (cur, ("other sizes of the icon removed", f"CUR {PNG_TOO}")),
    "ICNS": (icns, ("other sizes of the icon removed", f"ICNS {PNG_TOO}")),
    "PSD": (psd, (f"PSD {PNG_TOO}",)),
    "PSD layers": (lambda: psd(layer=True), ("layers removed", f"PSD {PNG_TOO}")),
    "PSD IPTC": (lambda: psd(resource=(1028, b"\x1c\x02\x50\0\1a")), ("IPTC removed", f"PSD {PNG_TOO}")),
    "PSD channels": (lambda: psd(channels=5), ("further channels removed", f"PSD {PNG_TOO}")),
    "SGI": (lambda: saved(PHOTO, "SGI"), (ALONE, f"SGI {PNG_TOO}")),
    "SGI 16 bit": (lambda: saved(PHOTO, "SGI", bpc=2), (DEEP, ALONE, f"SGI {PNG_TOO}")),
    "DCX": (dcx, ("first page of several", ALONE, f"DCX {PNG_TOO}")),
    **{
        kind: ((lambda kind=kind: saved(PHOTO, kind)), (ALONE, f"{kind} {PNG_TOO}"))
        for kind in ("DDS", "PCX", "QOI", "TGA")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_kept_is_noted(name: str) -> None:
    make, notes = CASES[name]
    data = make()
    photo = decode_photo(data, name)
    assert photo.notes == notes
    before, after = held(data), held(encode_photo(photo, photo.pixels))
    for what, value in before.items():
        said = [word for word in SAID_AS[what] if any(word in note for note in notes)]
        assert after.get(what) == value or said, f"{what} is lost, and no note says so"
    for part in (MOVIE, XMP, b"SoundShot", b"secret", b"someone"):
        assert part not in encode_photo(photo, photo.pixels)


SAID_AS = {
    "frames": ("frame", "page", "several", "further pictures", "layers"),
    "alpha": ("transparency", "gain map", "depth map", "auxiliary"),
    "bits": ("8 bits",),
    "mode": ("read as", "fourth channel"),
    "icc_profile": ("colour profile",),
    "xmp": ("XMP",),
    "comment": ("comment",),
    "text": ("texts", "XMP"),
    "dpi": ("resolution",),
    "camera": ("EXIF",),
    "preview": ("previews",),
    "gamma": (),
    "chromaticity": (),
}


def held(data: bytes) -> dict[str, Any]:
    """What Pillow reads of a file besides its pixels."""
    image = Image.open(io.BytesIO(data))
    image.load()
    tags = image.getexif()
    info = {key: image.info[key] for key in ("icc_profile", "xmp", "gamma", "chromaticity") if image.info.get(key)}
    if image.format in ("JPEG", "MPO", "GIF") and image.info.get("comment"):
        info["comment"] = image.info["comment"]
    if image.format != "TIFF" and (dpi := image.info.get("dpi")) and dpi[0] > 1:  # a TIFF's are among its tags
        info["dpi"] = tuple(round(float(value)) for value in dpi)
    info |= {"text": dict(image.text)} if getattr(image, "text", None) else {}
    info |= {"frames": image.n_frames} if getattr(image, "n_frames", 1) > 1 else {}
    info |= {"camera": tags[0x010F].rstrip("\0")} if 0x010F in tags else {}
    info |= {"preview": True} if b"\xff\xd8\xff" in (image.info.get("exif") or b"") else {}
    info |= {"alpha": True} if image.has_transparency_data else {}
    return info | {"mode": {"CMYK": "CMYK"}.get(image.mode, "RGB"), "bits": 16 if image.mode[:2] in ("I;", "F") else 8}


def test_every_container_that_pillow_reads_is_walked_or_read_for_its_pixels_alone() -> None:
    Image.init()
    tried = {name.partition(" ")[0] for name in CASES}
    for kind in {*Image.OPEN, "MPO"} - tried:
        image = Image.new("RGB", (4, 4))
        image.format = kind
        assert losses(image, bytes(4)) == [ALONE], kind


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_is_cut_short_or_damaged_raises_nothing(name: str) -> None:
    data = CASES[name][0]()
    image = Image.open(io.BytesIO(data))
    image.load()
    rng = np.random.default_rng(0)
    for _ in range(8):
        damaged = bytearray(data[: int(rng.integers(0, len(data)))])
        for place in rng.integers(0, max(len(damaged), 1), 4):
            damaged[place : place + 1] = bytes([int(rng.integers(256))])
        losses(image, bytes(damaged))


def test_pages_are_not_counted() -> None:
    """Pillow counts them by opening each, which takes the square of their number, and fails on one without a size."""
    data = tiff()
    (first,) = struct.unpack_from("<I", data, 4)
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    image = Image.open(io.BytesIO(data[:link] + struct.pack("<I", len(data)) + data[link + 4 :] + bytes(6)))
    image.load()
    assert losses(image, data) == ["first page of several"]


def test_a_note_for_each_of_any_number_of_kinds() -> None:
    boxes = b"".join(struct.pack(">I4s", 8, f"{number:04}".encode()) for number in range(100))
    data = jp2() + boxes
    image = Image.open(io.BytesIO(data))
    notes = losses(image, data)
    assert (notes[0], len(notes), notes[-1]) == ("boxes removed: 0000", 65, "36 further losses")


def test_iptc_is_what_pillow_reads_as_such() -> None:
    image = Image.open(io.BytesIO(jpeg(segment(0xED, IPTC))))
    assert IptcImagePlugin.getiptcinfo(image) == {(2, 80): b"someone"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "kind", "notes"),
    [
        ("RGB", "PNG", []),
        ("L", "JPEG", []),
        ("CMYK", "JPEG", ["CMYK read as RGB"]),
        ("1", "PNG", ["1 bit read as grey"]),
        ("P", "PNG", ["palette read as RGB"]),
        ("I;16", "PNG", ["more than 8 bits a channel reduced to 8"]),
    ],
)
def test_notes_say_what_8_bit_rgb_does_not_hold(mode: str, kind: str, notes: list[str]) -> None:
    data = saved(Image.new(mode, (9, 8)), kind)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert losses(image, data) == notes


def test_a_second_frame_of_a_gif_that_is_cut_in_its_header() -> None:
    """The first is whole; Pillow reads the second to say whether the picture moves."""
    data = saved(PHOTO.convert("P"), "GIF")
    assert data.endswith(b";")
    image = Image.open(io.BytesIO(data[:-1] + b"\x2c\0\0\0"))
    image.load()
    assert losses(image, data) == ["metadata that cannot be read removed"]
    assert decode_photo(data[:-1] + b"\x2c\0\0\0", "x").pixels.shape == (32, 40, 3)
