"""The photos that a command's user names: as arguments and with --in, in folders with other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, features

from conftest import Run
from facetools.commands._photos import open_photos
from facetools.photos.formats import ENDINGS
from filled_folders import fill


def listed(*inputs: Path | str, all_files: bool = False) -> list[str]:
    items = open_photos([str(path) for path in inputs], all_files=all_files, null=False)
    return [item.relative for item in items]


def test_files_that_are_no_photos_by_name_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "a.jpg", "b.HEIC", "notes.txt", "sub/c.png")
    assert listed(tmp_path) == ["a.jpg", "b.HEIC", "sub/c.png"]
    said = "facetools: note: 1 file is left out, not named as photos; all_files tries them\n"
    assert capsys.readouterr() == ("", said)
    assert listed(tmp_path, all_files=True) == ["a.jpg", "b.HEIC", "notes.txt", "sub/c.png"]
    assert listed(tmp_path / "sub", tmp_path / "notes.txt") == ["c.png", "notes.txt"]
    assert capsys.readouterr() == ("", "")


def test_endings_are_those_of_the_formats_that_are_read() -> None:
    Image.init()
    known = Image.registered_extensions()
    formats = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "ICO", "PSD", "PPM", "TGA", "PCX", "QOI"}
    formats |= {"JPEG2000"} if features.check("jpg_2000") else set()
    formats |= {"AVIF"} if features.check("avif") else set()
    missing = {ending for ending, name in known.items() if name in formats} - ENDINGS
    # Of these formats, names that stand for no photo: a program's icon cache, masks and depth maps.
    assert missing <= {".icb", ".vda", ".vst", ".pfm", ".dcx"}


@pytest.mark.parametrize(
    "given", [("{0}",), ("--in", "{0}"), ("{0}/0.png", "{0}/1.png"), ("--in", "{0}/0.png", "{0}/1.png")]
)
def test_photos_are_named_with_or_without_an_option(
    run: Callable[..., Run], plain_photos: Path, given: tuple[str, ...]
) -> None:
    done = run("facetools", "detect", *(each.format(plain_photos) for each in given))
    assert (done.code, done.err) == (0, "")
    assert [record["path"] for record in done.records] == [f"{plain_photos}/{name}" for name in ("0.png", "1.png")]
