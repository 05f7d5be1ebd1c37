"""The sheet that shows who is cloaked and who is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _toolio.errors import InputError, UsageError
from facetools.pictures import contact_sheet
from facetools.pictures.contact_sheet import (
    CLOAKED,
    NOT_CLOAKED,
    PAGE_PX,
    TILE_PX,
    ContactSheet,
    refuse_sheet,
    uncloaked_reason,
)

WHITE = np.full((300, 400, 3), 250, np.uint8)


def face(number: int, box: list[float], **fields: Any) -> dict[str, Any]:
    return {"source": "in/a.jpg", "face": number, "box": box, "attack": "lowkey", "linf": 9, **fields}


def drawn(tmp_path: Path, *photos: list[dict[str, Any]], pixels: Any = WHITE) -> np.ndarray[Any, Any]:
    sheet = ContactSheet(tmp_path / "s.png")
    for records in photos:
        sheet.add(records, lambda: pixels)
    assert sheet.close() == [tmp_path / "s.png"]
    return np.asarray(Image.open(tmp_path / "s.png"))


def place_of(picture: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The extent of a colour below the heading, and above the text."""
    rows, columns = np.nonzero((picture[28:358] == colour).all(2))
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def test_each_face_has_its_box_in_the_colour_of_what_became_of_it(tmp_path: Path) -> None:
    ratio = TILE_PX[1] / 300
    picture = drawn(tmp_path, [face(0, [50, 60, 110, 130]), face(1, [200, 60, 290, 160], reason="too little")])
    for colour, (x0, _, x1, y1) in ((CLOAKED, (50, 60, 110, 130)), (NOT_CLOAKED, (200, 60, 290, 160))):
        found = place_of(picture, colour)
        assert found is not None
        assert (found[0] - 8, found[2] - 8, found[3]) == pytest.approx((x0 * ratio, x1 * ratio, y1 * ratio), abs=2)


def test_a_face_that_was_not_chosen_is_not_cloaked(tmp_path: Path) -> None:
    picture = drawn(tmp_path, [face(0, [50, 60, 110, 130], others=[{"face": 1, "box": [200, 60, 290, 160]}])])
    assert place_of(picture, NOT_CLOAKED) is not None
    assert place_of(picture, CLOAKED) is not None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"reason": "too little"}, "too little"),
        ({"attack": "none"}, "attack none changes no face"),
        ({"linf": 0, "psnr": None}, "the saved face equals the clean one"),
    ],
)
def test_who_is_not_cloaked(fields: dict[str, Any], reason: str | None) -> None:
    assert uncloaked_reason(face(0, [0, 0, 9, 9], **fields)) == reason


def test_a_failure_is_a_grey_tile_and_its_photo_is_not_asked_for(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError

    def gone() -> Any:
        raise InputError("in/a.jpg: no such file")

    sheet = ContactSheet(tmp_path / "s.png")
    sheet.add([{"source": "in/b.jpg", "error": {"kind": "k", "message": "in/b.jpg: damaged"}}], never)
    sheet.add([face(0, [1, 2, 3, 4])], gone)
    sheet.add([{"source": "in/\udcff.jpg", "face": None, "reason": "no face found"}], lambda: WHITE)
    sheet.close()
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    grey = (picture == (150, 150, 150)).all(2)
    # The edges of letters have any grey.
    assert 0 <= grey.sum() - 2 * TILE_PX[0] * TILE_PX[1] < 100


def test_a_photo_of_small_faces_is_as_wide_as_the_page(tmp_path: Path) -> None:
    large = np.full((3000, 4000, 3), 250, np.uint8)
    picture = drawn(tmp_path, [face(0, [100, 100, 300, 300])], pixels=large)
    found = place_of(picture, CLOAKED)
    assert found is not None
    assert found[2] - found[0] > 2.9 * 200 * TILE_PX[0] / 4000


def test_pages_are_written_as_they_fill_and_memory_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    save = contact_sheet.save_picture

    def saved(picture: Image.Image, path: Path) -> None:
        sizes.append(picture.size)
        save(picture, path)

    monkeypatch.setattr(contact_sheet, "save_picture", saved)
    sheet = ContactSheet(tmp_path / "s.png")
    for number in range(40):
        sheet.add([face(0, [50, 60, 110, 130], source=f"{number}.jpg")], lambda: WHITE)
        assert sum(tile.height for row in sheet._rows for tile in row) < 3 * PAGE_PX
    assert (tmp_path / "s-2.png").exists(), "before the run ends"
    pages = sheet.close()
    assert [page.name for page in pages] == ["s.png", "s-2.png", "s-3.png"]
    assert all(height <= PAGE_PX for _, height in sizes)
    assert len(sizes) == 3


def test_an_empty_sheet_and_odd_photos_can_be_drawn(tmp_path: Path) -> None:
    assert drawn(tmp_path).shape[0] > 0
    for shape in ((1, 1), (1, 5000), (5000, 1)):
        drawn(
            tmp_path, [face(0, [-90, -90, 9000, 9000]), face(1, [0, 0, 1, 1])], pixels=np.zeros((*shape, 3), np.uint8)
        )
    drawn(tmp_path, [face(number, [5, 5, 90, 90], reason=f"reason {number} " * 30) for number in range(40)])


def test_no_page_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "s-2.png").write_bytes(b"x")
    (tmp_path / "s-two.png").write_bytes(b"x")
    refuse_sheet(tmp_path / "s.png", (), force=True, named="preview")
    with pytest.raises(UsageError, match=r"preview .*s-2.png: exists; use force"):
        refuse_sheet(tmp_path / "s.png", (), force=False, named="preview")
    with pytest.raises(UsageError, match=r"name a \.png file"):
        refuse_sheet(tmp_path / "s.jpg", (), force=True, named="preview")
