"""Test whether a training has taught a classifier anything, by the records of its evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from _toolio.errors import param
from berttools.texts.chance import standard_error

_FEW_STEPS = 10
"""Of fewer, losses differ by the texts that were drawn."""


def signs_of_nothing_learned(
    best: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, examples: int | None
) -> list[str]:
    """Return what says that nothing was learned, each a clause; empty if nothing does.

    Parameters
    ----------
    best
        The record of the evaluation whose weights are kept: ``metric``, ``score`` and ``chance``, and ``one_label`` if
        every text got that label.
    history
        The records of all evaluations: ``loss`` and ``step``, the first with ``first_loss``.
    examples
        Number of texts of the evaluation; None if there were none.
    """
    return [*(_of_scores(best, examples) if examples else ()), *_of_losses(history)]


def _of_scores(best: Mapping[str, Any], examples: int) -> Iterator[str]:
    metric, score, chance = (best.get(key) for key in ("metric", "score", "chance"))
    if chance is None or chance >= 1:  # all texts have one label, and there is nothing to tell
        return
    if "one_label" in best:
        yield f"every text of {param('dev')} is labelled {best['one_label']!r}"
    if score is None:
        yield f"the model says the same of every text of {param('dev')}"
    elif score <= chance + standard_error(str(metric), chance, examples):
        of = "chance" if chance == 0 else "the same label for every text"
        yield f"{metric} {score:.4g} on {param('dev')} is no better than the {chance:.4g} of {of}, within its error"


def _of_losses(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    begun = history[0].get("first_loss") if history else None
    if begun is not None and history[-1]["step"] >= _FEW_STEPS and (last := history[-1]["loss"]) >= begun:
        yield f"the loss did not fall ({begun:.4g} at first, {last:.4g} at last)"
