"""What a cloak must reach so that its attack stops: a distance from the clean face, or somebody else's face nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facetools.cloaking.goals.others import Others


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a cloaked face has come.

    Attributes
    ----------
    moved
        Cosine distance to the clean face, mean over extractors, 0 to 2.
    margin
        By how much the nearest of other people is nearer than the clean face, in cosine distance: the least of the
        extractors, -2 to 2. None where nobody else counts.
    slack
        By how much the goal is exceeded, or missed where it is negative.
    reached
        The goal is reached.
    """

    moved: float
    margin: float | None
    slack: float
    reached: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """What a cloak must reach.

    Attributes
    ----------
    moved
        Cosine distance to the clean face, mean over extractors; None: any.
    others
        People of whom one must be nearer than the clean face, in every extractor; None: nobody.
    """

    moved: float | None = None
    others: Others | None = None

    def describe(self) -> dict[str, Any]:
        """Return it as JSON, for journals."""
        return {"moved": self.moved, "others": self.others and self.others.digest}

    def measure(self, clean: Sequence[Tensor], cloaked: Sequence[Tensor], others: Sequence[Tensor] = ()) -> Reach:
        """Measure how far a face has come.

        Parameters
        ----------
        clean, cloaked
            Its embeddings before and after, float [D] for each extractor.
        others
            What ``Others.besides`` returns for its person: for each extractor float [K, D], of length 1.
        """
        own = [_distance(after, before[None]) for before, after in zip(clean, cloaked, strict=True)]
        moved = float(torch.cat(own).mean())
        slacks, margin = [] if self.moved is None else [moved - self.moved], None
        if self.others is not None:
            nearest = [_distance(after, people).min() for after, people in zip(cloaked, others, strict=True)]
            margin = min(float(mine[0] - near) for mine, near in zip(own, nearest, strict=True))
            slacks.append(margin)
        # Of two people at the same distance neither is the nearer; and NaN reaches nothing.
        reached = (self.moved is None or moved >= self.moved) and (margin is None or margin > 0)
        return Reach(moved, margin, min(slacks, default=0.0), reached)


def _distance(face: Tensor, people: Tensor) -> Tensor:
    """Return the cosine distances of float [D] to float [K, D], float64 [K]."""
    return (1 - torch.nn.functional.cosine_similarity(face.double()[None], people.double().to(face.device))).clamp(
        min=0
    )
