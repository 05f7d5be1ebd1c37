"""Links in an archive, beside what tar itself unpacks."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from _toolio.streams.inputs import open_items

FILES = {"./p/1.jpg": b"one", "q/2.jpg": b"two"}
LEADING = {"p/a.jpg": "1.jpg", "./p/b.jpg": "../q/2.jpg", "p/over/c.jpg": "../b.jpg", "d.jpg": "./p/./1.jpg"}
NOWHERE = {
    "out.jpg": "../elsewhere.jpg",
    "absolute.jpg": "/p/1.jpg",
    "gone.jpg": "p/9.jpg",
    "folder": "p",
    "x": "y",
    "y": "x",
    "self": "self",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as made:
        # A link may come before its file.
        for name, target in {**LEADING, **NOWHERE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("hard.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "./p/1.jpg"
        made.addfile(info)
    return path


def test_links_to_the_archives_own_files_are_files(archive: Path, tmp_path: Path) -> None:
    found = {item.relative: item.read() for item in open_items([str(archive)])}
    folder = tmp_path / "unpacked"
    with tarfile.open(archive) as stored:
        kept = [member for member in stored if member.name not in NOWHERE]
        # The filter is of Python 3.11.4 and newer.
        stored.extractall(folder, kept, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    expected = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == expected
    assert found["p/over/c.jpg"] == b"two"
