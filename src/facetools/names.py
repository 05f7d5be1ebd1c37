"""Names of cloaks: parsed from the command line, and shortened for tables and charts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from _toolio.errors import UsageError, param

CLEAN = "clean"
"""Reserved: no cloak may have this name."""


def parse_cloaked(text: str) -> tuple[str, str]:
    """Parse ``NAME=PATH``, or a path alone, which names itself; one that exists as it stands is a path."""
    name, equals, path = text.partition("=")
    if not equals or not name or Path(text).exists():
        return text.rstrip("/") or text, text
    if not path:
        raise UsageError(f"{param('cloaked')} {text}: give NAME=PATH, such as lowkey=cloaked/")
    return name, path


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten paths to the last parts that still distinguish them: ``a/x/clean`` and ``a/y/clean`` to ``x/clean``...

    Names joined by ``+``, as those of cloaks in turn, are shortened each.
    """
    wholes = list(dict.fromkeys(names))
    parts = list(dict.fromkeys(part for whole in wholes for part in whole.split("+")))
    short = {}
    for part in parts:
        pieces = [piece for piece in part.split("/") if piece] or [part]
        others = [[piece for piece in other.split("/") if piece] for other in parts if other != part]
        many = next((n for n in range(1, len(pieces)) if all(o[-n:] != pieces[-n:] for o in others)), len(pieces))
        short[part] = "/".join(pieces[-many:])
    return {whole: "+".join(short[part] for part in whole.split("+")) for whole in wholes}
