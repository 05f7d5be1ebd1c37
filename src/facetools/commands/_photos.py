"""Open the photos that a command's user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from _toolio.cli.messages import note
from _toolio.streams.inputs import STDIN, Item, Kind, open_items
from facetools.photos.formats import photo_files

if TYPE_CHECKING:
    from _toolio.engines.engine import Engine


def open_photos(
    inputs: Sequence[str],
    *,
    all_files: bool,
    null: bool,
    urls: bool = False,
    shard: tuple[int, int] | None = None,
) -> list[Item] | Iterator[Item]:
    """List photos as `_toolio.streams.inputs.open_items` does, those that lists name too.

    How many files of other names are left out is said on stderr, of many photos behind the last.
    """
    photos = None if all_files else photo_files()
    items = open_items(inputs, null=null, shard=shard, only=photos, collections=True, urls=urls)
    if photos is None:
        return items
    if isinstance(items, list):
        _say_left_out(photos)
        return items
    return _until_all_are_listed(items, photos)


def _until_all_are_listed(items: Iterator[Item], photos: Kind) -> Iterator[Item]:
    yield from items
    _say_left_out(photos)


def _say_left_out(photos: Kind) -> None:
    if photos.left_out:
        note("facetools", photos.note)


def say_if_halved(engine: Engine, batch: int) -> None:
    """Say on stderr that memory has run out and fewer were taken together than ``--batch`` says."""
    if (least := engine.halved_to) is not None and least < batch:
        note("facetools", f"out of memory: {least} at a time; --batch {least} begins so")


def part_of(inputs: Sequence[str], shard: tuple[int, int], *naming: str) -> object | None:
    """Return what decides which files of an output folder a run writes: see `_toolio.files.claims.claimed_part`.

    ``naming`` is what else their names depend on. None where stdin names the photos.
    """
    if STDIN in inputs:
        return None
    return [sorted(os.path.realpath(name) for name in inputs), shard, naming]
