"""How masks are learned: method, pattern and numbers, importable without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How scores make a mask."""

    bernoulli = "bernoulli"
    threshold = "threshold"
    topk = "topk"


class Pattern(StrEnum):
    """Groups of weights that are kept or zeroed together."""

    free = "free"
    two_of_four = "2:4"
    row = "row"
    head = "head"


class Distance(StrEnum):
    """How far from zero scores begin."""

    even = "even"
    magnitude = "magnitude"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How masks are learned.

    Attributes
    ----------
    method, pattern
        As of ``Method`` and ``Pattern``. With 2:4 two of each four weights in a row stay, whatever the method.
    initial_sparsity
        Share of a matrix's weights, those of least magnitude, whose scores begin below zero.
    initial_score
        Magnitude of scores at the beginning; with ``Distance.magnitude`` the mean one of a matrix's.
    target_sparsity
        topk's sparsity at the end; None for ``initial_sparsity``.
    distance
        Whether all scores of a matrix begin equally far from zero, or in proportion to their weights' magnitudes.
    """

    method: Method = Method.bernoulli
    pattern: Pattern = Pattern.free
    initial_sparsity: float = 0.0
    initial_score: float = 5.0
    target_sparsity: float | None = None
    distance: Distance = Distance.even

    def sparsity_at(self, progress: float) -> float:
        """Return topk's sparsity at a share of the steps: cubic, as Zhu and Gupta 2017 (arXiv 1710.01878).

        It reaches the target after four fifths of the steps.
        """
        begin, end = self.initial_sparsity, self.target_sparsity
        if end is None:
            return begin
        return end + (begin - end) * (1 - min(1.0, progress / 0.8)) ** 3


RATES = {Method.bernoulli: 0.2, Method.threshold: 1e-3, Method.topk: 1e-2}
FIRST = {Method.bernoulli: 5.0, Method.threshold: 0.01, Method.topk: 0.1}
"""Defaults of the scores, by method: peak learning rate, and magnitude at the beginning."""


def reaches_zero(recipe: Recipe, rate_factors: Iterable[float], rate: float) -> bool:
    """Test whether Adam's steps, each about as long as its learning rate, can take a score across zero.

    Parameters
    ----------
    recipe
        How masks are learned.
    rate_factors
        Each step's learning rate as a fraction of its peak.
    rate
        The scores' peak learning rate.
    """
    if recipe.method is Method.topk or recipe.pattern is Pattern.two_of_four:
        return True  # scores only have to change places
    # In proportion to magnitudes, one score in twenty begins within a tenth of the mean.
    furthest = recipe.initial_score * (0.1 if recipe.distance is Distance.magnitude else 1.0)
    return math.fsum(rate_factors) * rate > furthest
