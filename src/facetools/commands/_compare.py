"""Folders that ``facetools compare`` sets side by side, and what sums each up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from _toolio.errors import UsageError
from _toolio.words import many
from facetools.commands._evaluate import named_cloaks
from facetools.commands._summary import FaceTally, spread
from facetools.names import CLEAN


def name_folders(cloaked: Sequence[str]) -> dict[str, str]:
    """Return the folders by the names that records call them; the only one has none, unless it was given one.

    Raises
    ------
    UsageError
        Two have one name.
    """
    names, paths = named_cloaks(cloaked)
    if names == paths and len(names) == 1:
        return {"": paths[0]}
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"CLOAKED {name}: given twice; give NAME=PATH with another name")
        if name == CLEAN:
            raise UsageError(f"CLOAKED {name}: is what the clean photos are called; give NAME=PATH with another name")
    return dict(zip(names, paths, strict=True))


class MovedTally:
    """Numbers of faces and photos, and how far the faces moved; of ``several`` folders also of what is in one alone."""

    def __init__(self, *, several: bool) -> None:
        self._several, self._faces, self._moved, self._alone = several, FaceTally(), list[float](), 0

    def add(self, fields: Mapping[str, Any]) -> None:
        """Count a record."""
        if self._several and None in (fields["path"], fields["source"]):
            self._alone += 1
            return
        self._faces.add(fields, fields.get("path"))
        self._moved += [fields["moved"]] if fields.get("moved") is not None else []

    def line(self) -> str:
        """Return one line."""
        alone = f", {many(self._alone, 'photo')} without a counterpart" if self._alone else ""
        return f"{self._faces.line()}: moved {spread(self._moved)}{alone}"
