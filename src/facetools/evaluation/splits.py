"""Splits of a person's photos into training and test photos."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, param
from facetools.evaluation.config import ProtocolConfig

Numbers = npt.NDArray[np.int64]


def refuse_few(people: Sequence[str], folds: int) -> None:
    """Refuse galleries in which nobody can be tested.

    Raises
    ------
    ToolError
        Nobody has two photos, or as many as there are folds.
    """
    most = max(Counter(people).values())
    if most < 2:
        raise ToolError(
            f"nobody of {len(people)} people has two photos, one to train on and one to ask; if folders do not name "
            f"people, give {param('labels')}",
            kind="one-photo",
        )
    if folds > most:
        raise ToolError(
            f"{param('folds')} {folds}: nobody has more than {most} photos; give {most} or fewer", kind="folds"
        )


def split_photos(
    people: Sequence[str], protocol: ProtocolConfig, places: Sequence[str] | None = None
) -> list[npt.NDArray[np.bool_]]:
    """Draw the test photos of each fold at random; the others are trained on.

    A person's draw depends on the seed, their name and the order of their photos, but not on who else is there.
    Someone with one photo is only trained on.

    Parameters
    ----------
    people
        Who is in each of n photos.
    protocol
        Split or folds, and the seed.
    places
        Where each photo lies below its input: the order of a person's photos. None: they are in order as they come.

    Returns
    -------
    list of bool [n]
        One array a fold.
    """
    names = np.array(people)
    tested = [np.zeros(len(names), bool) for _ in range(protocol.folds)]
    for person in np.unique(names):
        rows = np.flatnonzero(names == person)
        if len(rows) < 2:
            continue
        order = by_place(rows, places)[generator_of(protocol.seed, str(person)).permutation(len(rows))]
        if protocol.folds == 1:
            few = math.floor((1 - protocol.split) * len(rows) + 1e-9)
            tested[0][order[: min(max(1, few), len(rows) - 1)]] = True
        else:
            for fold, part in enumerate(np.array_split(order, protocol.folds)):
                tested[fold][part] = True
    return tested


def by_place(rows: Numbers, places: Sequence[str] | None) -> Numbers:
    """Return rows in the order of their places; as they are where there are none."""
    return rows if places is None else rows[np.argsort([places[row] for row in rows], kind="stable")]


def generator_of(seed: int, *words: str) -> np.random.Generator:
    """Return a generator that a seed and words decide."""
    return np.random.default_rng([seed, *"\0".join(words).encode("utf-8", "surrogatepass")])
