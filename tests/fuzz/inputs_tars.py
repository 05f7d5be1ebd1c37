"""Damaged tar archives: every file is read or is an error of one line, and no name leads outside."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from _toolio.errors import InputError, ToolError
from _toolio.streams import tars
from _toolio.streams.inputs import open_items
from fuzzing import fuzz, mutated

NAME = "tars"

TYPES = (*(tarfile.REGTYPE,) * 4, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"S", b"L", b"x")
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"}
PACKINGS = (lambda data: data, lambda data: data, gzip.compress, bz2.compress, lzma.compress)


def seed_archive(rng: random.Random) -> bytes:
    """Return an archive of files, folders, links of both kinds, long names and headers of the three formats."""
    out = io.BytesIO()
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        long = "d" * (90 if form == tarfile.USTAR_FORMAT else 150)
        names = ["a.jpg", "b/c.jpg", "é.jpg", "../up.jpg", "/abs.jpg", long, "link", "hard"]
        for name in rng.sample(names, rng.randint(1, len(names))):
            info = tarfile.TarInfo(name)
            info.type = rng.choice(TYPES)
            info.linkname = rng.choice(names) if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            if form == tarfile.PAX_FORMAT and rng.random() < 0.3:
                info.pax_headers = dict(SPARSE)
            data = rng.choice((b"", b"x", b"1\n0\n1\n".ljust(513, b"\0"), rng.randbytes(1300)))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def with_checksums(data: bytes) -> bytes:
    """Return an archive whose blocks that look like headers have right checksums, so that damage is read."""
    out = bytearray(data)
    for start in range(0, len(out) - 511, 512):
        block = out[start : start + 512]
        if block[257:262] == b"ustar":
            out[start + 148 : start + 156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(out)


def with_size(data: bytes, rng: random.Random) -> bytes:
    """Return an archive with another size in one header: huge, negative, or no number."""
    out = bytearray(data)
    starts = [start for start in range(0, len(out) - 511, 512) if out[start + 257 : start + 262] == b"ustar"]
    if starts:
        start = rng.choice(starts)
        huge = b"\x80" + rng.choice((1 << 36, 1 << 60, (1 << 88) - 1)).to_bytes(11, "big")
        out[start + 124 : start + 136] = rng.choice((b"7" * 11 + b"\0", huge, b"\xff" * 10 + b"\xfe\0"))
    return bytes(out)


def try_one(rng: random.Random) -> str:
    """Damage an archive and read all of it."""
    data = seed_archive(rng)
    if rng.random() < 0.3:
        data = with_size(data, rng)
    if rng.random() < 0.8:
        data = mutated(data, rng)
    if rng.random() < 0.7:
        data = with_checksums(data)
    data = rng.choice(PACKINGS)(data)
    if rng.random() < 0.2:
        data = mutated(data, rng)
    tars._open.clear()
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        path = Path(folder) / "a.tar"
        path.write_bytes(data)
        try:
            items = list(open_items([str(path)]))
        except ToolError as error:
            assert "\n" not in error.message
            return "refused"
        damaged = False
        for item in items:
            parts = item.relative.split("/")
            assert item.relative
            assert ".." not in parts
            assert not item.relative.startswith("/")
            try:
                item.read()
            except InputError as error:
                damaged = True
                assert "\n" not in error.message or "\n" in item.relative
    return "some" if damaged else "read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one))
