"""Open the photos that a command's user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from _toolio.cli.messages import note
from _toolio.streams.inputs import STDIN, Item, open_items
from facetools.photos.formats import photo_files

if TYPE_CHECKING:
    from _toolio.compute.engines import Engine


def open_photos(
    inputs: Sequence[str], *, all_files: bool, null: bool, shard: tuple[int, int] = (1, 1)
) -> list[Item] | Iterator[Item]:
    """List photos; say on stderr how many files of other names are left out. As `_toolio.streams.inputs.open_items`."""
    photos = None if all_files else photo_files()
    items = open_items(inputs, null=null, shard=shard, only=photos)
    if photos is not None and photos.left_out:
        note("facetools", photos.note)
    return items


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
