"""What ``facetools train-detector`` reads: folders of clean and of cloaked photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from _toolio.options import finite
from _toolio.paths import count, open_items
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools.commands._shared import needing_work
from facetools.naming import parse_cloaked

if TYPE_CHECKING:
    import torch

    from facetools.detector_examples import Example, Reader

Clean = Annotated[list[str], typer.Option(metavar="PATH", help="A folder or .tar of clean photos; may be repeated.")]
Cloaked = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=PATH",
        help="A folder or .tar of cloaked photos, and the name of the attack. Default: the folder's. May be repeated.",
    ),
]
FalseAlarms = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=0.5,
        callback=finite,
        help="Share of clean held-out faces that may reach the threshold, as they are and made to look odd.",
    ),
]


def name_cloaks(cloaked: Sequence[str]) -> list[tuple[str, str]]:
    """Read NAME=PATH, or PATH, which is named by its last part without ``.tar``; sorted: no order means anything."""
    named = []
    for text in cloaked:
        name, path = parse_cloaked(text)
        # Absolute, so that "." has a name.
        named.append((Path(name).absolute().name.removesuffix(".tar") if name == path.rstrip("/") else name, path))
    return sorted(named)


def number_attacks(named: Sequence[tuple[str, str]]) -> tuple[list[str], list[int]]:
    """Give the names of the attacks in order, and of each input its attack's number."""
    attacks = sorted({name for name, _ in named})
    return attacks, [attacks.index(name) for name, _ in named]


def read_examples(
    writer: RecordWriter,
    reader: Reader,
    folders: Sequence[str],
    cloak: int,
    device: torch.device,
    faces: str,
    min_face_px: float | None,
) -> Iterator[Example]:
    """Read the faces of some inputs, -1 for clean ones; photos that cannot be used become records."""
    from facetools.intake import take_in

    items = open_items(list(folders))
    tracked = track(items, "reading faces", count(items))
    for intake in needing_work(writer, take_in(tracked, device, faces=faces, min_face_px=min_face_px)):
        if example := reader.read(intake, cloak):
            yield example
        else:
            writer.emit({"path": intake.item.path, "reason": "no face found"})
