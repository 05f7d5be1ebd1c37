"""Contact sheet of cloaked photos: each face boxed and numbered, cloaked or not, so that people see who was missed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import InputError
from _toolio.files.overwriting import refuse_link
from _toolio.streams.records import Record
from facetools.pictures.grid import drawable, refuse_picture, save_picture

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from facetools.photos.photo import Pixels

CLOAKED, NOT_CLOAKED = (0, 114, 178), (213, 94, 0)
"""Colours of boxes, RGB: blue and vermilion, which most colour-blind people tell apart."""

COLUMNS, TILE_PX = 3, (440, 330)
"""Tiles beside each other, and width and height of a tile's photo."""

PAGE_PX = 2_400
"""A page is full when it is so high: some 10 MB, and 15 to 18 photos."""

SMALL_PX = 24
"""A photo with a face that would be smaller than this on its tile is drawn as wide as the page."""

MOST_LINES = 6
"""Lines of text under a photo."""

_GAP_PX, _LINE_PX, _CHAR_PX = 8, 14, 6
_PAPER, _INK, _GREY = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_WIDTH_PX = COLUMNS * (TILE_PX[0] + _GAP_PX) + _GAP_PX


def refuse_sheet(path: Path, inputs: Sequence[str], *, force: bool, named: str) -> None:
    """Refuse a contact sheet, one of whose pages could not be written or would replace what it should not.

    The parameters and errors are those of ``refuse_picture``.
    """
    refuse_picture(path, inputs, force=force, named=named)
    pages = re.compile(re.escape(path.stem) + r"-\d+" + re.escape(path.suffix))
    for other in sorted(path.parent.iterdir()):
        if pages.fullmatch(other.name):
            refuse_link(other)
            refuse_picture(other, inputs, force=force, named=named)


def uncloaked_reason(record: Mapping[str, Any]) -> str | None:
    """Return why the face of a record of ``perturb`` is not cloaked; None for a cloaked face."""
    if record.get("reason"):
        return str(record["reason"])
    if record.get("attack") == "none":
        return "attack none changes no face"
    return "the saved face equals the clean one" if record.get("linf") == 0 else None


class ContactSheet:
    """Draw photos page by page; a page is written as soon as it is full, so that memory does not grow with the photos.

    Parameters
    ----------
    path
        The first page, a PNG; the next are called ``-2``, ``-3`` before the ending.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._page = 1
        self._row: list[Image.Image] = []
        self._rows: list[list[Image.Image]] = []

    def add(self, records: Sequence[Record], pixels: Callable[[], Pixels]) -> None:
        """Draw one photo.

        Parameters
        ----------
        records
            What ``perturb`` printed of it: one record a face, or one about the photo.
        pixels
            Returns what is shown, uint8 [H, W, 3]: the photo as it was written, or as it is where none was. Not
            called for an input that failed, which is drawn as a grey tile; one is drawn too where it raises InputError.
        """
        tile, wide = _tile_of(records, pixels)
        if wide:
            self._end_row()
        self._row.append(tile)
        if wide or len(self._row) == COLUMNS:
            self._end_row()

    def _end_row(self) -> None:
        if not self._row:
            return
        if self._rows and self._height + max(tile.height for tile in self._row) > PAGE_PX:
            self._save(last=False)
        self._rows.append(self._row)
        self._row = []

    @property
    def _height(self) -> int:
        return sum(max(tile.height for tile in row) + _GAP_PX for row in self._rows) + 2 * _LINE_PX

    def close(self) -> list[Path]:
        """Write the last page; return all of them."""
        self._end_row()
        self._save(last=True)
        return [self._path_of(page) for page in range(1, self._page)]

    def _path_of(self, page: int) -> Path:
        return self._path if page == 1 else self._path.with_stem(f"{self._path.stem}-{page}")

    def _save(self, *, last: bool) -> None:
        from PIL import Image, ImageDraw, ImageFont

        picture = Image.new("RGB", (_WIDTH_PX, self._height), _PAPER)
        pen, x = ImageDraw.Draw(picture), _GAP_PX
        page = f"page {self._page}" + (", the last" if last and self._page > 1 else "")
        for text, colour in (("cloaked", CLOAKED), ("not cloaked", NOT_CLOAKED), (page, _INK)):
            pen.text((x, 4), text, colour, ImageFont.load_default())
            x += _CHAR_PX * (len(text) + 3)
        y = 2 * _LINE_PX
        for row in self._rows:
            for number, tile in enumerate(row):
                picture.paste(tile, (_GAP_PX + number * (TILE_PX[0] + _GAP_PX), y))
            y += max(tile.height for tile in row) + _GAP_PX
        save_picture(picture, self._path_of(self._page))
        self._rows = []
        self._page += 1


def _tile_of(records: Sequence[Record], pixels: Callable[[], Pixels]) -> tuple[Image.Image, bool]:
    """Draw a photo with its faces and the text under it; returns too whether it is as wide as the page."""
    first = records[0]
    title = str(first.get("source") or first.get("path") or "an input without a path")
    error = first.get("error")
    if error is None:
        try:
            return _photo_tile(title, records, pixels())
        except InputError as problem:
            error = {"message": problem.message}
    message = error.get("message", "failed") if isinstance(error, Mapping) else "failed"
    return _with_text(None, TILE_PX, title, [str(message)], NOT_CLOAKED), False


def _photo_tile(title: str, records: Sequence[Record], pixels: Pixels) -> tuple[Image.Image, bool]:
    from PIL import Image, ImageDraw

    faces, lines = _faces_of(records)
    height, width = pixels.shape[:2]
    smallest = min((max(box[2] - box[0], box[3] - box[1]) for box, *_ in faces), default=max(width, height))
    wide = smallest * min(TILE_PX[0] / width, TILE_PX[1] / height) < SMALL_PX
    # A panorama of four tiles' height fills no page alone.
    room = (_WIDTH_PX - 2 * _GAP_PX, 4 * TILE_PX[1]) if wide else TILE_PX
    ratio = min(room[0] / width, room[1] / height, 8.0)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    photo = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(photo)
    for box, number, colour in faces:
        _draw_box(pen, [value * ratio for value in box], number, colour)
    safe = bool(faces) and all(colour == CLOAKED for *_, colour in faces)
    return _with_text(photo, room if wide else TILE_PX, title, lines, CLOAKED if safe else NOT_CLOAKED), wide


def _faces_of(records: Sequence[Record]) -> tuple[list[tuple[Sequence[float], str, tuple[int, int, int]]], list[str]]:
    """Return each face's box, number and colour, and the lines that say who is not cloaked and why."""
    faces: list[tuple[Sequence[float], str, tuple[int, int, int]]] = []
    reasons: dict[str, list[str]] = {}
    for record in records:
        reason = uncloaked_reason(record)
        number = "" if record.get("face") is None else str(record["face"])
        if record.get("box"):
            faces.append((record["box"], number, NOT_CLOAKED if reason else CLOAKED))
        if reason:
            reasons.setdefault(reason, []).append(number)
    for other in records[0].get("others") or ():
        faces.append((other["box"], str(other["face"]), NOT_CLOAKED))
        reasons.setdefault("another face was chosen", []).append(str(other["face"]))
    lines = [f"{', '.join(numbers)}: {reason}" if all(numbers) else reason for reason, numbers in reasons.items()]
    return faces, lines or [f"{len(faces)} cloaked"]


def _draw_box(pen: ImageDraw.ImageDraw, box: Sequence[float], number: str, colour: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    x0, y0, x1, y1 = box
    pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=2)
    # Inside the photo, whatever the box is.
    width, height = _CHAR_PX * len(number) + 4, _LINE_PX
    left = min(max(x0, 0), pen.im.size[0] - width)
    top = min(max(y0 - height, 0), pen.im.size[1] - height)
    pen.rectangle((left, top, left + width, top + height), fill=colour)
    pen.text((left + 2, top + 1), number, _PAPER, ImageFont.load_default())


def _with_text(
    photo: Image.Image | None, room: tuple[int, int], title: str, lines: Sequence[str], colour: tuple[int, int, int]
) -> Image.Image:
    """Draw a photo, or a grey area, and lines of text under it: the title, then what a person should know."""
    from PIL import Image, ImageDraw, ImageFont

    fits = room[0] // _CHAR_PX
    wrapped = [drawable(title[-fits:]), *(part for line in lines for part in textwrap.wrap(drawable(line), fits))]
    if len(wrapped) > MOST_LINES:
        wrapped = [*wrapped[: MOST_LINES - 1], "..."]
    height = room[1] if photo is None else photo.height
    tile = Image.new("RGB", (room[0], height + _LINE_PX * len(wrapped) + 4), _PAPER)
    if photo is None:
        tile.paste(_GREY, (0, 0, room[0], height))
    else:
        tile.paste(photo, (0, 0))
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default()
    for number, text in enumerate(wrapped):
        pen.text((0, height + 2 + number * _LINE_PX), text, colour if number else _INK, font)
    return tile
