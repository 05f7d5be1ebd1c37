"""How masks are learned, in words and numbers; ``berttools.mask_tuning.masked_linear`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How scores make a mask."""

    bernoulli = "bernoulli"
    threshold = "threshold"
    topk = "topk"


class Pattern(StrEnum):
    """Which weights are kept or zeroed together."""

    free = "free"
    two_of_four = "2:4"
    row = "row"
    head = "head"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How masks are learned.

    Attributes
    ----------
    method, pattern
        See there. With 2:4 two of each four weights in a row stay, whatever the method.
    initial_sparsity
        Share of a matrix's weights, those nearest zero, whose scores begin below zero.
    initial_score
        How far from zero scores begin.
    target_sparsity
        What topk ends at; None for ``initial_sparsity``.
    """

    method: Method = Method.bernoulli
    pattern: Pattern = Pattern.free
    initial_sparsity: float = 0.0
    initial_score: float = 5.0
    target_sparsity: float | None = None

    def sparsity_at(self, progress: float) -> float:
        """Give topk's sparsity when this share of the steps is made: cubic, as Zhu and Gupta 2017 (arXiv 1710.01878).

        It reaches the target after four fifths of the steps.
        """
        begin, end = self.initial_sparsity, self.target_sparsity
        if end is None:
            return begin
        return end + (begin - end) * (1 - min(1.0, progress / 0.8)) ** 3


RATES = {Method.bernoulli: 0.2, Method.threshold: 1e-3, Method.topk: 1e-2}
FIRST = {Method.bernoulli: 5.0, Method.threshold: 0.01, Method.topk: 0.1}
"""Of the scores, by method, where nothing else is said: peak learning rate, and how far from zero they begin."""
