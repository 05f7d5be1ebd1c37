"""The picture of what cloaks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _toolio.errors import ToolError, UsageError
from facetools.pictures.grid import CELL_PX, WIDEST, Grid, refuse_picture


def photo(height: int, width: int, value: int = 90) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def colours(picture: Image.Image, value: tuple[int, int, int]) -> tuple[Any, Any]:
    """The rows and columns where a picture has a colour."""
    return np.nonzero((np.asarray(picture) == value).all(2))


def test_a_row_shows_clean_cloaked_and_the_amplified_difference() -> None:
    clean, cloaked = photo(300, 400), photo(300, 400)
    cloaked[100:200, 100:200] = (93, 85, 90)  # +3, -5, 0
    grid = Grid(rows=2, amplify=10)
    assert grid.add(clean, cloaked, [(100, 100, 200, 200)]) == 0
    picture = grid.draw()
    difference = (128 + 30, 128 - 50, 128)
    found = [colours(picture, value)[1] for value in ((90, 90, 90), (93, 85, 90), difference)]
    assert all(len(columns) > 5000 for columns in found)
    # From left to right; the clean photo's colour also is around the cloaked part.
    assert found[1].max() < found[2].min()
    assert found[0].min() < found[1].min()
    # 15% of context on each side of the box: 100 of 130 pixels are the cloaked part.
    part = found[1].max() - found[1].min() + 1
    assert part == pytest.approx(CELL_PX * 100 / 130, abs=4)
    assert len(colours(picture, (128, 128, 128))[0]) > 1000, "unchanged is mid grey"


def test_a_large_difference_is_clipped_and_not_wrapped() -> None:
    grid = Grid(rows=1, amplify=255)
    grid.add(photo(50, 50, 0), photo(50, 50, 255), [])
    grid.add(photo(50, 50, 255), photo(50, 50, 0), [])
    assert len(colours(grid.draw(), (255, 255, 255))[0]) > CELL_PX**2
    grid = Grid(rows=1, amplify=1)
    grid.add(photo(50, 50, 200), photo(50, 50, 0), [])
    assert len(colours(grid.draw(), (0, 0, 0))[0]) >= 2 * CELL_PX**2


def test_what_does_not_fit_is_left_out() -> None:
    grid = Grid(rows=2, amplify=10)
    assert [grid.add(photo(50, 50), photo(50, 50), []) for _ in range(3)] == [0, 1, None]
    assert grid.draw().height < 3 * CELL_PX


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (1, 1)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    grid = Grid(rows=1, amplify=10)
    grid.add(photo(*size), photo(*size), [])
    picture = grid.draw()
    assert picture.height <= CELL_PX + 60
    assert picture.width <= 3 * WIDEST * CELL_PX + 60


def test_boxes_at_the_edge_stay_inside() -> None:
    grid = Grid(rows=1, amplify=10)
    assert grid.add(photo(60, 60), photo(60, 60), [(0, 0, 10, 60), (50, 0, 60, 60)]) == 0
    assert len(colours(grid.draw(), (90, 90, 90))[0]) >= 2 * (CELL_PX - 2) ** 2


def test_a_label_cannot_break_the_picture(tmp_path: Path) -> None:
    grid = Grid(rows=1, amplify=10)
    row = grid.add(photo(50, 50), photo(50, 50), [])
    assert row == 0
    before = np.asarray(grid.draw())
    grid.label(row, "é \udcff \n \u4eba " * 50)
    after = np.asarray(grid.draw())
    assert after.shape == before.shape
    assert (after != before).any()
    grid.save(tmp_path / "g.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), after)


def test_an_empty_picture_can_be_drawn(tmp_path: Path) -> None:
    Grid(rows=3, amplify=10).save(tmp_path / "g.png")
    assert Image.open(tmp_path / "g.png").size[1] > 0
    with pytest.raises(ToolError, match="does not exist"):
        Grid(rows=3, amplify=10).save(tmp_path / "no" / "g.png")


def test_what_must_not_be_replaced_is_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    inputs = (str(photos), str(tmp_path / "p.tar"))
    refuse_picture(tmp_path / "new.png", inputs, force=False)
    refuse_picture(tmp_path / "a.png", inputs, force=True)
    for name, force, why in (
        ("a.png", False, "exists; use force"),
        ("folder.png", True, "no regular file"),
        ("a.jpg", True, "name a .png file"),
        ("no/a.png", True, "is no folder"),
        ("photos/a.png", True, "lies in"),
    ):
        with pytest.raises(UsageError, match=why) as caught:
            refuse_picture(tmp_path / name, inputs, force=force)
        assert caught.value.message.startswith(f"grid {tmp_path / name}: ")
