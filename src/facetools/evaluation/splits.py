"""Splits of a person's photos into training and test photos."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How photos are dealt out.

    Attributes
    ----------
    share
        Of each person's n photos to train on: floor((1 - share) n) are asked, but one at least, and one at least is
        trained on.
    folds
        1: one random split by ``share``. More: each photo is asked in one of so many splits.
    seed
        Draws the splits, and which photos are cloaked.
    fraction
        Of a person's training photos that are cloaked, rounded; at least one is.
    drop_missing
        Training photos without a cloaked copy are left out, of the floor too; otherwise their person cannot be
        evaluated.
    """

    share: float = 0.7
    folds: int = 1
    seed: int = 0
    fraction: float = 1.0
    drop_missing: bool = False


def refuse_few(people: Sequence[str], folds: int) -> None:
    """Refuse galleries in which nobody can be asked.

    Raises
    ------
    ToolError
        Nobody has two photos, or as many as there are folds.
    """
    most = max(Counter(people).values())
    if most < 2:
        raise ToolError(
            f"nobody of {len(people)} people has two photos, one to train on and one to ask; if folders do not name "
            "people, give --labels",
            kind="one-photo",
        )
    if folds > most:
        raise ToolError(f"--folds {folds}: nobody has more than {most} photos; give {most} or fewer", kind="folds")


def split_photos(people: Sequence[str], plan: Plan, places: Sequence[str] | None = None) -> list[npt.NDArray[np.bool_]]:
    """Draw which photos are asked, bool [n] for each fold; the others are trained on.

    A person's draw depends on the seed, their name and the order of their photos, which is that of ``places``, where
    each photo lies below its input, and not that of the records (None: as they come). It does not depend on who else
    is there. Someone with one photo is only trained on.
    """
    names = np.array(people)
    asked = [np.zeros(len(names), bool) for _ in range(plan.folds)]
    for person in np.unique(names):
        rows = np.flatnonzero(names == person)
        if len(rows) < 2:
            continue
        order = by_place(rows, places)[generator_of(plan.seed, str(person)).permutation(len(rows))]
        if plan.folds == 1:
            few = math.floor((1 - plan.share) * len(rows) + 1e-9)
            asked[0][order[: min(max(1, few), len(rows) - 1)]] = True
        else:
            for fold, part in enumerate(np.array_split(order, plan.folds)):
                asked[fold][part] = True
    return asked


def by_place(rows: Numbers, places: Sequence[str] | None) -> Numbers:
    """Return rows in the order of their places; as they are where there are none."""
    return rows if places is None else rows[np.argsort([places[row] for row in rows], kind="stable")]


def generator_of(seed: int, *words: str) -> np.random.Generator:
    """Return a generator that a seed and words decide."""
    return np.random.default_rng([seed, *"\0".join(words).encode("utf-8", "surrogatepass")])
