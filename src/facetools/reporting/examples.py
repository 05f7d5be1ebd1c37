"""Example photos of a report: clean, cloaked, and the difference amplified."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import InputError, ToolError, UsageError, param
from _toolio.streams.inputs import STDIN, Item, list_whole
from _toolio.words import printable
from facetools.names import parse_cloaked
from facetools.pairs import match_photos
from facetools.people import person_of
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels, same_shape, scale_to
from facetools.pictures.grid import draw_cells
from facetools.reporting.drawing import Picture

if TYPE_CHECKING:
    from PIL import Image

CELL_PX = 240
"""Height of a photo in the report; twice as many pixels as a phone shows of three beside each other."""


@dataclass(frozen=True, slots=True)
class ExamplesConfig:
    """Example photos of a report.

    Attributes
    ----------
    clean
        A folder or archive of clean photos.
    cloaked
        Names of cloaks and their folders or archives.
    suffix
        What the names of cloaked photos add.
    count
        Number of photos, at most.
    amplify
        Factor of the difference.
    """

    clean: str
    cloaked: Sequence[tuple[str, str]]
    suffix: str
    count: int
    amplify: float


@dataclass(frozen=True, slots=True)
class Example:
    """One photo: its title, and for each cloak its name and the three pictures."""

    title: str
    rows: Sequence[tuple[str, Sequence[Picture]]]


def check_examples(
    clean: str | None, cloaked: Sequence[str], suffix: str, count: int, amplify: float
) -> ExamplesConfig | None:
    """Check parameters before anything is read; return None where no photos are to be shown.

    Parameters
    ----------
    clean, suffix, count, amplify
        As in ``ExamplesConfig``.
    cloaked
        Folders or archives, as ``NAME=PATH`` or ``PATH``.

    Raises
    ------
    UsageError
        Parameters contradict each other.
    ToolError
        A folder does not exist.
    """
    if clean is None and not cloaked:
        return None
    if clean is None or not cloaked:
        missing, why = ("clean", "cloaked") if clean is None else ("cloaked", "clean")
        raise UsageError(
            f"{param(why)} needs {param(missing)} beside it: examples are of clean photos and their cloaked copies"
        )
    named = [parse_cloaked(text) for text in cloaked]
    for path in (clean, *(path for _, path in named)):
        if path == STDIN:
            raise UsageError(f"{param('clean')} and {param('cloaked')} cannot be -: name a folder or a .tar")
        if not Path(path).exists():
            raise ToolError(f"{path}: no such file or folder", kind="missing")
    for name, path in named:
        if [other for other, _ in named].count(name) > 1:
            raise UsageError(
                f"{param('cloaked')} {name}={path}: another cloak has that name; give NAME=PATH with another"
            )
    return ExamplesConfig(clean, named, suffix, count, amplify)


def draw_examples(config: ExamplesConfig) -> Iterator[Example | tuple[Item, InputError]]:
    """Yield examples of as many people as there are, first photos first, up to ``config.count``.

    A photo that cannot be used is yielded with the reason, and another one is drawn in its place.

    Raises
    ------
    ToolError
        None of the photos has a copy of any cloak.
    """
    clean = list_whole([config.clean])
    copies: dict[str, list[tuple[str, Item]]] = defaultdict(list)
    for name, path in config.cloaked:
        for pair in match_photos(clean, list_whole([path]), suffix=config.suffix):
            if pair.clean and pair.cloaked:
                copies[pair.clean.path].append((name, pair.cloaked))
    # Photos that most cloaks were tried on show these side by side.
    most, drawn = max(map(len, copies.values())), 0
    for item in _turns([item for item in clean if len(copies.get(item.path, ())) == most]):
        if drawn == config.count:
            return
        try:
            yield _draw(item, copies[item.path], config.amplify, drawn + 1)
            drawn += 1
        except InputError as error:
            yield item, error


def _turns(items: Sequence[Item]) -> Iterator[Item]:
    """Yield everybody's first photo, then everybody's second one."""
    people: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        people[person_of(item.relative)].append(item)
    for turn in zip_longest(*people.values()):
        yield from (item for item in turn if item is not None)


def _draw(item: Item, copies: Sequence[tuple[str, Item]], amplify: float, number: int) -> Example:
    clean = decode_photo(item.read(), item.path).pixels
    title, rows = printable(item.relative), []
    first: Picture | None = None
    for place, (name, copy) in enumerate(copies, 1):
        cells = draw_cells(clean, _fitting(clean, copy), [], amplify=amplify, height=CELL_PX)
        stem = f"photos/{number}-{place}"
        shown = printable(name)
        first = first or _picture(f"photos/{number}-clean.png", cells[0], f"Clean photo {title}", "clean")
        rows.append(
            (
                name,
                (
                    first,
                    _picture(f"{stem}-cloaked.png", cells[1], f"The same photo, cloaked: {shown}", shown),
                    _picture(
                        f"{stem}-difference.png",
                        cells[2],
                        f"Difference of the cloaked photo ({shown}) from the clean one, {amplify:g} times as strong",
                        f"difference x{amplify:g}",
                    ),
                ),
            )
        )
    return Example(title, rows)


def _fitting(clean: Pixels, copy: Item) -> Pixels:
    pixels = decode_photo(copy.read(), copy.path).pixels
    if pixels.shape == clean.shape:
        return pixels
    if not same_shape(clean, pixels):
        raise InputError(f"{copy.path}: differs in shape from the clean photo: one is cropped or turned", kind="shape")
    return scale_to(pixels, clean)


def _picture(name: str, image: Image.Image, alt: str, caption: str) -> Picture:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return Picture(name, out.getvalue(), f"{alt}.", caption)
