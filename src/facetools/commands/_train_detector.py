"""Options of ``facetools train-detector``, and how folders of cloaked photos are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli.options import finite
from _toolio.errors import UsageError
from _toolio.streams.inputs import STDIN
from facetools.names import CLEAN, parse_cloaked


def at_least_two(folds: int) -> int:
    """Check the number of folds."""
    if folds == 1:
        raise UsageError("--folds 1: leaves nothing to train on; give 2 or more, or 0")
    return folds


Clean = Annotated[list[str], typer.Option(metavar="PATH", help="A folder or .tar of clean photos; may be repeated.")]
Cloaked = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=PATH",
        help="A folder or .tar of cloaked photos, and the name of the attack. Default: the folder's. May be repeated.",
    ),
]
Suffix = Annotated[
    str, typer.Option("--suffix", help="What the names of cloaked photos add to those of clean ones: 1_cloaked.png.")
]
Folds = Annotated[
    int,
    typer.Option(
        "--folds",
        min=0,
        callback=at_least_two,
        help="Hold out sources, not people: deal them into so many parts, and score each by a network that is trained "
        "on the others. 0: hold out people.",
    ),
]
KeepFolds = Annotated[
    bool,
    typer.Option("--keep-folds", help="Keep the detectors of the folds, as NAME.without-SOURCE+SOURCE.safetensors."),
]
FalseAlarms = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=0.5,
        callback=finite,
        help="Share of clean held-out faces, as they are and strongly changed, that may be called cloaked by default.",
    ),
]


def name_cloaks(clean: Sequence[str], cloaked: Sequence[str]) -> list[tuple[str, str]]:
    """Parse NAME=PATH, or PATH, which is named by its last part without ``.tar``; sorted: their order has no meaning.

    Raises
    ------
    UsageError
        A name that no attack can have, two folders of one name that was not given, or stdin twice.
    """
    named = []
    for text in cloaked:
        name, path = parse_cloaked(text)
        own = name == path.rstrip("/")
        if own:  # absolute, so that "." has a name
            name = Path(name).absolute().name.removesuffix(".tar")
        if not name.strip().isprintable() or name.strip() in ("", CLEAN):
            raise UsageError(f"--cloaked {text}: an attack cannot be called {name!a}; give NAME=PATH with another name")
        named.append((name.strip(), path, own))
    for name, path, own in named:
        if own and any(name == other and path != elsewhere for other, elsewhere, _ in named):
            raise UsageError(f"--cloaked {path}: another folder is called {name} too; give NAME=PATH for both")
    if [*clean, *(path for _, path, _ in named)].count(STDIN) > 1:
        raise UsageError("- can be given once: stdin is read once")
    return sorted((name, path) for name, path, _ in named)


def number_attacks(named: Sequence[tuple[str, str]]) -> tuple[list[str], list[int]]:
    """Return the names of the attacks in order, and the number of each input's attack."""
    attacks = sorted({name for name, _ in named})
    return attacks, [attacks.index(name) for name, _ in named]
