"""Draw photos beside their copies from several folders, one row a photo and one column a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facetools.pictures.grid import CELL_PX, Cell, draw_part, draw_sheet, drawable, save_picture

if TYPE_CHECKING:
    from PIL import Image

    from facetools.photos.photo import Pixels


class Columns:
    """Collect the rows of a picture, each downscaled when it is added, so that no photo is kept in memory.

    Parameters
    ----------
    headings
        What stands above each folder's column, by the folder's name.
    rows
        Maximum number of rows; later ones are ignored.
    """

    def __init__(self, headings: Mapping[str, str], *, rows: int) -> None:
        self._headings, self._most = dict(headings), rows
        self._rows: list[PhotoRow] = []

    def photo(self) -> PhotoRow:
        """Return the row of the next photo, which is in the picture once a copy is drawn in it."""
        return PhotoRow(self._enter)

    def _enter(self, row: PhotoRow) -> int | None:
        if len(self._rows) == self._most:
            return None
        self._rows.append(row)
        return len(self._rows) - 1

    def draw(self) -> Image.Image:
        """Draw all rows, RGB: the clean photo, then the copy from each folder, or why there is none."""
        rows = [[row.clean, *(row.cells.get(name, Cell(None, "")) for name in self._headings)] for row in self._rows]
        return draw_sheet(["clean", *map(drawable, self._headings.values())], rows, narrowest=CELL_PX)

    def save(self, path: Path) -> None:
        """Write the picture, whole or not at all; ToolError if that is not possible."""
        save_picture(self.draw(), path)


class PhotoRow:
    """The row of one photo.

    Attributes
    ----------
    clean
        The photo.
    cells
        Its copies, by the names of their folders.
    """

    def __init__(self, enter: Callable[[PhotoRow], int | None]) -> None:
        self._enter, self._drawn = enter, False
        self._number: int | None = None
        self.clean, self.cells = Cell(None, ""), dict[str, Cell]()

    def column(self, name: str) -> CopyCell:
        """Return the place of the copy from one folder."""
        return CopyCell(self, name)

    def number(self, clean: Pixels, boxes: Sequence[tuple[int, int, int, int]]) -> int | None:
        """Return the row's number in the picture, from 0, or None where that is full; draw the clean photo once.

        The first of the faces is drawn: of a large photo with several, nothing could be seen of any.
        """
        if not self._drawn:
            self._drawn, self._number = True, self._enter(self)
            self.clean = Cell(draw_part(clean, boxes[:1]) if self._number is not None else None, "")
        return self._number


class CopyCell:
    """The place of a photo's copy from one folder; what a `Grid` is where there is but one folder."""

    amplify = None

    def __init__(self, row: PhotoRow, name: str) -> None:
        self._row, self._name = row, name

    def add(self, clean: Pixels, cloaked: Pixels, boxes: Sequence[tuple[int, int, int, int]]) -> int | None:
        """Draw the copy, and the photo if it is the first; as ``Grid.add``."""
        number = self._row.number(clean, boxes)
        if number is not None:
            self._row.cells[self._name] = Cell(draw_part(cloaked, boxes[:1]), "")
        return number

    def describe(
        self, row: int, relative: str, moved: float | None, *, scaled: bool, ssim: float | None = None
    ) -> None:
        """Set the texts below the photo and below its copy: of the first face how far it moved, and its SSIM."""
        del row
        figures = [] if moved is None else [f"moved {moved:.3f}"]
        figures += ["scaled"] if scaled else []
        figures += [] if ssim is None else [f"SSIM {ssim:.3f}"]
        self._row.clean = self._row.clean._replace(text=drawable(relative))
        cell = self._row.cells[self._name]
        self._row.cells[self._name] = cell._replace(text="  ".join(figures))

    def leave_empty(self, why: str) -> None:
        """Write in the copy's place why it is not drawn."""
        self._row.cells[self._name] = Cell(None, drawable(why))
