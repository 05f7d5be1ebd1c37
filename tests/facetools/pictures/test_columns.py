"""Copies from several folders, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetools.pictures.columns import Columns
from facetools.pictures.grid import CELL_PX

NAMES = {"a": "a", "b/": "strong"}


def photo(value: int, height: int = 50, width: int = 50) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def columns_of(picture: Image.Image, value: int) -> np.ndarray:
    """The columns of pixels in which a grey is found often."""
    return np.nonzero((np.asarray(picture) == value).all(2).sum(0) > CELL_PX / 2)[0]


def test_the_clean_photo_is_first_and_then_a_column_a_folder() -> None:
    sheet = Columns(NAMES, rows=3)
    row = sheet.photo()
    # In whatever order they come.
    assert row.column("b/").add(photo(10), photo(90), []) == 0
    assert row.column("a").add(photo(10), photo(50), []) == 0
    starts = [columns_of(sheet.draw(), value).min() for value in (10, 50, 90)]
    assert starts == sorted(starts)
    assert np.diff(starts).tolist() == [CELL_PX + 6] * 2


def test_a_place_without_a_copy_says_why() -> None:
    sheet = Columns(NAMES, rows=3)
    row = sheet.photo()
    row.column("a").leave_empty("no cloaked photo of this name")
    row.column("b/").add(photo(10), photo(90), [])
    picture = np.asarray(sheet.draw())
    place = picture[20 : 20 + CELL_PX, CELL_PX + 12 : 2 * CELL_PX + 12]
    assert (place == 255).mean() > 0.9
    assert (place < 100).any(), "there is a text in it"
    blank = Columns(NAMES, rows=3)
    blank.photo().column("b/").add(photo(10), photo(90), [])
    assert not np.array_equal(picture, np.asarray(blank.draw()))


def test_a_photo_none_of_whose_copies_is_drawn_has_no_row() -> None:
    sheet = Columns(NAMES, rows=1)
    sheet.photo().column("a").leave_empty("cannot be read")
    empty = sheet.draw()
    assert sheet.photo().column("a").add(photo(10), photo(50), []) == 0
    assert sheet.photo().column("a").add(photo(10), photo(50), []) is None, "it is full"
    assert sheet.draw().height > empty.height


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (1, 1)])
def test_long_texts_stay_in_their_column(size: tuple[int, int], tmp_path: Path) -> None:
    sheet = Columns({"a": "x" * 300, "b/": "b"}, rows=1)
    row = sheet.photo()
    number = row.column("a").add(photo(10, *size), photo(50, *size), [])
    assert number == 0
    row.column("b/").leave_empty("why " * 50)
    before = np.asarray(sheet.draw())
    row.column("a").describe(number, "é \udcff \n \u4eba " * 50, 0.25, scaled=True)
    after = np.asarray(sheet.draw())
    changed = np.nonzero((before != after).any((0, 2)))[0]
    widest = (after.shape[1] - 24) // 3
    assert before.shape == after.shape
    # Below the photo and below its copy, and not in the third column.
    assert changed.max() < 2 * (widest + 6) + 6
    sheet.save(tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size == after.shape[1::-1]


def test_the_largest_face_alone_is_drawn_with_its_figures_below() -> None:
    clean, copy = photo(10, 400, 2000), photo(50, 400, 2000)
    copy[100:200, 100:200] = 90
    row = Columns(NAMES, rows=1).photo()
    place = row.column("a")
    assert place.add(clean, copy, [(100, 100, 200, 200), (1800, 300, 1850, 350)]) == 0
    place.describe(0, "a.jpg", 0.25, scaled=False, ssim=0.9)
    drawn = row.cells["a"]
    assert drawn.picture is not None
    assert (np.asarray(drawn.picture) == 90).all(2).mean() > 0.5
    assert row.clean.picture is not None
    assert drawn.picture.size == row.clean.picture.size
    assert drawn.text == "moved 0.250  SSIM 0.900"
