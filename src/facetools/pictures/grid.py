"""Draw clean photo, cloaked photo and amplified difference side by side, one row a photo."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from _toolio.errors import UsageError, param
from _toolio.files.atomic import atomic_write_bytes
from _toolio.words import printable

if TYPE_CHECKING:
    from PIL import Image

    from facetools.photos.photo import Pixels

CELL_PX = 160
"""Height of a row's pictures."""

WIDEST = 2
"""A picture is at most this many times as wide as high; a wider one is drawn lower."""

CONTEXT = 0.15
"""Share of the faces' extent that is shown around it, on each side."""

_GAP_PX, _LINE_PX = 6, 16
_PAPER, _INK, _FRAME = (255, 255, 255), (30, 30, 30), (200, 200, 200)
_LETTER_PX = 6


class Cell(NamedTuple):
    """A place in a picture.

    Attributes
    ----------
    picture
        RGB; None: the text stands in its place.
    text
        The line below.
    """

    picture: Image.Image | None
    text: str


def refuse_picture(path: Path, inputs: Sequence[str], *, force: bool, named: str = param("grid")) -> None:
    """Refuse a picture that cannot be written, or would replace what it should not, before any work is done.

    Parameters
    ----------
    path, named
        The picture, and what the message calls it: a `param`.
    inputs
        Files and folders of photos, in which it must not lie.
    force
        It may be replaced.

    Raises
    ------
    UsageError
        The message says what to try.
    """
    wrong = None
    if path.suffix.lower() != ".png":
        wrong = "is drawn as PNG; name a .png file"
    elif path.exists() and not path.is_file():
        wrong = "is no regular file; name one that can be replaced"
    elif path.exists() and not force:
        wrong = f"exists; use {param('force')} to replace it"
    elif not path.parent.is_dir():
        wrong = f"{path.parent} is no folder; make it first"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        wrong = f"{path.parent} may not be written to; name a file elsewhere"
    for name in inputs:
        inside = path.resolve().is_relative_to(Path(name).resolve())
        wrong = f"lies in {name}, whose photos it would be counted among; name a file elsewhere" if inside else wrong
    if wrong:
        raise UsageError(f"{named} {path}: {wrong}")


class Grid:
    """Collect the rows of a picture, each downscaled when it is added, so that no photo is kept in memory.

    Parameters
    ----------
    rows
        Maximum number of rows; later ones are ignored.
    amplify
        The difference is drawn this many times as strong, around mid grey.
    """

    def __init__(self, *, rows: int, amplify: float) -> None:
        self._most, self.amplify = rows, amplify
        self._rows: list[tuple[str, list[Image.Image]]] = []

    def photo(self) -> Self:
        """Return where the next photo is drawn; a `facetools.pictures.columns.Columns` has a row for each."""
        return self

    def column(self, name: str) -> Self:
        """Return where the photo's copy is drawn, which is from the only folder."""
        del name
        return self

    def add(self, clean: Pixels, cloaked: Pixels, boxes: Sequence[tuple[int, int, int, int]]) -> int | None:
        """Draw a row.

        Parameters
        ----------
        clean, cloaked
            uint8 [H, W, 3], RGB.
        boxes
            What to show, as (x0, y0, x1, y1) in pixels of the photo: all of them and some context. Empty: the
            whole photo.

        Returns
        -------
        int or None
            The row's number, from 0; None where the picture is full.
        """
        if len(self._rows) == self._most:
            return None
        cells = draw_cells(clean, cloaked, boxes, amplify=self.amplify)
        self._rows.append(("", cells))
        return len(self._rows) - 1

    def label(self, row: int, text: str) -> None:
        """Set the line of text under a row."""
        self._rows[row] = (drawable(text), self._rows[row][1])

    def describe(
        self, row: int, relative: str, moved: float | None, *, scaled: bool, ssim: float | None = None
    ) -> None:
        """Set the line under a row to the photo's path and how far its first face moved."""
        del scaled, ssim
        self.label(row, relative + ("" if moved is None else f"  moved {moved:.3f}"))

    def leave_empty(self, why: str) -> None:
        """Draw nothing: a row has the photo and its copy."""
        del why

    def draw(self) -> Image.Image:
        """Draw all rows, RGB."""
        titles = ("clean", "cloaked", f"difference x{self.amplify:g}")
        rows = [[Cell(each, "" if n else text) for n, each in enumerate(cells)] for text, cells in self._rows]
        return draw_sheet(titles, rows)

    def save(self, path: Path) -> None:
        """Write the picture, whole or not at all; ToolError if that is not possible."""
        save_picture(self.draw(), path)


def draw_sheet(titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, narrowest: int | None = None) -> Image.Image:
    """Draw rows of pictures of one height a row, with a line of text below each.

    Parameters
    ----------
    titles
        What stands above the columns.
    rows
        A cell a column; the first has a picture.
    narrowest
        Width of a column in pixels, where no picture is wider; texts are shortened to a column's width. None: as wide
        as the widest picture, and texts run on over the next columns.
    """
    from PIL import Image, ImageDraw, ImageFont

    firsts = [row[0].picture for row in rows if row[0].picture is not None]
    widest = max(narrowest or 0, *(each.width for each in firsts)) if firsts else CELL_PX
    heights = [each.height + _LINE_PX + _GAP_PX for each in firsts]
    columns = [_GAP_PX + number * (widest + _GAP_PX) for number in range(len(titles))]
    picture = Image.new("RGB", (columns[-1] + widest + _GAP_PX, _LINE_PX + _GAP_PX + sum(heights)), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default()

    def write(x: int, y: int, text: str) -> None:
        pen.text((x, y), text if narrowest is None else _shortened(text, widest, font), _INK, font)

    for x, title in zip(columns, titles, strict=True):
        write(x, _GAP_PX // 2, title)
    y = _LINE_PX + _GAP_PX // 2
    for row, height in zip(rows, heights, strict=True):
        below = y + height - _LINE_PX - _GAP_PX
        for x, cell in zip(columns, row, strict=True):
            if cell.picture is not None:
                picture.paste(cell.picture, (x, y))
                write(x, below + 1, cell.text)
            else:
                pen.rectangle((x, y, x + widest - 1, below - 1), outline=_FRAME)
                why = textwrap.fill(cell.text, max(1, widest // _LETTER_PX - 2))
                pen.text((x + _GAP_PX, y + _GAP_PX), why, _INK, font)
        y += height
    return picture


def _shortened(text: str, width: int, font: Any) -> str:
    """Return a text that is no wider than a column."""
    shown = text
    while shown and font.getlength(shown) > width:
        text = text[:-1]
        shown = f"{text}..."
    return shown


def drawable(text: str) -> str:
    """Return a text as Pillow's own font can draw it, which is Latin-1 without FreeType."""
    return printable(text).encode("latin-1", "replace").decode("latin-1")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all; ToolError if that is not possible."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    atomic_write_bytes(path, data.getvalue())


def draw_cells(
    clean: Pixels, cloaked: Pixels, boxes: Sequence[tuple[int, int, int, int]], *, amplify: float, height: int = CELL_PX
) -> list[Image.Image]:
    """Draw clean, cloaked and the amplified difference, RGB.

    Parameters
    ----------
    clean, cloaked, boxes
        As ``Grid.add`` takes them.
    amplify
        The difference is drawn this many times as strong, around mid grey.
    height
        Of the pictures, in pixels; see ``WIDEST``.
    """
    part = _around(boxes, clean.shape[0], clean.shape[1])
    before, after = clean[part], cloaked[part]
    # Three parts of a photo at its full size; of a large face some 10 MB each.
    return [_drawn(each, height) for each in (before, after, _amplified(before, after, amplify))]


def draw_part(photo: Pixels, boxes: Sequence[tuple[int, int, int, int]]) -> Image.Image:
    """Draw what is shown of a photo, uint8 [H, W, 3], as `draw_cells` does."""
    return _drawn(photo[_around(boxes, photo.shape[0], photo.shape[1])], CELL_PX)


def _drawn(part: Pixels, height: int) -> Image.Image:
    from PIL import Image

    rows, columns = part.shape[:2]
    ratio = min(height / rows, WIDEST * height / columns)
    size = max(1, round(columns * ratio)), max(1, round(rows * ratio))
    return Image.fromarray(part).resize(size, Image.Resampling.LANCZOS)


def _around(boxes: Sequence[tuple[int, int, int, int]], height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns that contain all boxes, with context around them."""
    if not boxes:
        return slice(0, height), slice(0, width)
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    aside, above = round(CONTEXT * (x1 - x0)), round(CONTEXT * (y1 - y0))
    return slice(max(0, y0 - above), min(height, y1 + above)), slice(max(0, x0 - aside), min(width, x1 + aside))


def _amplified(clean: Pixels, cloaked: Pixels, factor: float) -> Pixels:
    """Draw a difference around mid grey: uint8 [H, W, 3]."""
    import numpy as np

    from facetools.photos.photo import to_bytes

    difference = cloaked.astype(np.float32) - clean
    return to_bytes(128 + factor * difference)
