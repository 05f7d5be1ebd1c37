"""File formats by the command line's names."""

from __future__ import annotations

from facetools.photos.codec import SUFFIXES
from facetools.photos.formats import Format


def test_every_format_but_keep_can_be_written() -> None:
    assert {each.value.upper() for each in Format} - {"KEEP"} <= SUFFIXES.keys()
    assert Format("keep") is Format.keep
