"""Match cloaked copies to the photos of a gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from _toolio.errors import ToolError, param
from facetools.evaluation.gallery import Gallery
from facetools.evaluation.splits import Numbers
from facetools.pairs import match_photos, without_suffix


@dataclass(frozen=True, slots=True)
class Cloaks:
    """Cloaked copies of a gallery's photos.

    Attributes
    ----------
    name
        The input with the cloaked photos.
    rows
        int [n], for each clean photo the row of its cloaked copy, -1 where it has none.
    unmatched
        Paths of cloaked photos with a face and without a clean one.
    faceless
        For the row of a clean photo the path of its cloaked copy, where no face was found in the copy.
    orphans
        Path of a cloaked photo and of its clean one, where no face was found in the clean one.
    """

    name: str
    rows: Numbers
    unmatched: tuple[str, ...]
    faceless: Mapping[int, str] = field(default_factory=dict)
    orphans: tuple[tuple[str, str], ...] = ()

    @property
    def used(self) -> list[int]:
        """The rows of the copies that have a clean photo."""
        return [int(row) for row in self.rows if row >= 0]


def match_cloaks(name: str, clean: Gallery, cloaked: Gallery, *, suffix: str = "") -> Cloaks:
    """Match cloaked photos to clean ones, exactly, by their paths below their inputs without file endings.

    Parameters
    ----------
    name
        The input with the cloaked photos.
    clean, cloaked
        Galleries of both sides.
    suffix
        What the file names of cloaked photos add.

    Raises
    ------
    ToolError
        No photo has a cloaked copy with a face.
    """
    originals, copies = (*clean.items, *clean.faceless), (*cloaked.items, *cloaked.faceless)
    if suffix and not any(without_suffix(item.relative, suffix) for item in copies):
        raise ToolError(
            f"{param('suffix')} {suffix}: no cloaked photo's name in {name} ends in {suffix}; give what the names of "
            "cloaked photos add, or leave it out",
            kind="no-match",
        )
    places = [{item.path: row for row, item in enumerate(each.items)} for each in (clean, cloaked)]
    rows, unmatched, faceless, orphans = np.full(len(clean.items), -1), [], {}, []
    for pair in match_photos(originals, copies, suffix=suffix):
        if not pair.cloaked:
            continue
        here, there = places[0].get(pair.clean.path) if pair.clean else None, places[1].get(pair.cloaked.path)
        if not pair.clean:
            unmatched += [pair.cloaked.path] if there is not None else []
        elif here is not None and there is not None:
            rows[here] = there
        elif here is not None:
            faceless[here] = pair.cloaked.path
        elif there is not None:
            orphans.append((pair.cloaked.path, pair.clean.path))
    if not (rows >= 0).any():
        raise ToolError(f"{name}: no face was found both in a photo and in its cloaked copy", kind="no-match")
    return Cloaks(name, rows, tuple(unmatched), faceless, tuple(orphans))


def refuse_equal(cloaks: Cloaks, clean: Sequence[Gallery], cloaked: Sequence[Gallery]) -> None:
    """Refuse cloaked photos that are the clean ones: the floor would be reported as a cloak's protection.

    Parameters
    ----------
    cloaks
        The copies of the photos.
    clean, cloaked
        The galleries, one for each model.

    Raises
    ------
    ToolError
        Every copy has the same embeddings, or the same bytes, as its photo.
    """
    has = np.flatnonzero(cloaks.rows >= 0)
    equal = np.ones(len(has), bool)
    for one, other in zip(clean, cloaked, strict=True):
        equal &= (one.embeddings[has] == other.embeddings[cloaks.rows[has]]).all(1)
    if clean[0].sha256s and cloaked[0].sha256s:
        equal |= np.array(clean[0].sha256s)[has] == np.array(cloaked[0].sha256s)[cloaks.rows[has]]
    if equal.all():
        raise ToolError(
            f"{cloaks.name}: the cloaked photos are the clean ones, all {len(has)} that match; name the folder with "
            "the cloaked copies",
            kind="not-cloaked",
        )
