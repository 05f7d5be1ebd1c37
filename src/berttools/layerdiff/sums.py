"""Sum what was found by layer, group or model: tensors laid end to end, no mean of distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from berttools.checkpoints.groups import KNOWN_GROUPS
from berttools.checkpoints.names.layers import Row, row_of, row_order
from berttools.checkpoints.tokens import OTHER, SAME, UNCHECKED
from berttools.layerdiff.diffs import TensorDiff
from berttools.layerdiff.distances import Measured, TensorDistance


class Summary(NamedTuple):
    """The distance of all tensors of a layer, a group or a cell of both, laid end to end: no mean of distances."""

    layer: int | None
    group: str | None
    tensors: int
    left_out: int
    """Tensors that could not be compared, or are integers and no weights."""
    distance: TensorDistance
    rounding_angle: float | None
    stack: str | None = None
    only_in: str | None = None
    """``"base"`` or ``"ft"`` where only that has any of the tensors."""
    rows_new: int | None = None
    """Rows of tokens that only the fine-tuned model has, of all tensors; None where vocabularies are of one size."""
    rows_gone: int | None = None
    """The same of the base."""
    vocabulary: str | None = None
    """As of a tensor; what is known of the tensors of which the least is known."""


CellKey = tuple[int | None, str | None, str | None]

KEYS: Mapping[str, Callable[[TensorDiff], CellKey]] = {
    "layer": lambda diff: (diff.layer, None, diff.stack),
    "group": lambda diff: (None, diff.group, None),
    "model": lambda _: (None, None, None),
    "cell": lambda diff: (diff.layer, diff.group, diff.stack),
}
"""Layer, group and stack that the tensors of a sum have in common."""


def summarise(diffs: Iterable[TensorDiff], by: str, groups: Sequence[str] = KNOWN_GROUPS) -> list[Summary]:
    """Sum by layer, group, cell (both) or model, in that order; what has no layer or group comes last.

    A tensor that is a copy of another (`TensorDiff.tied_to`) counts once. Integers that are no weights
    (`TensorDiff.whole`) are left out: position ids up to 511 would outweigh all else.

    Parameters
    ----------
    diffs
        As `diff_checkpoints` yields them.
    by
        One of `KEYS`.
    groups
        The order of groups.
    """
    cells: dict[CellKey, list[TensorDiff]] = {}
    for diff in diffs:
        if diff.tied_to is None:
            cells.setdefault(KEYS[by](diff), []).append(diff)

    def order(key: CellKey) -> tuple[object, float]:
        layer, group, stack = key
        return row_order(stack, layer), groups.index(group) if group in groups else math.inf

    return [_summary(key, cells[key]) for key in sorted(cells, key=order)]


def _summary(key: CellKey, diffs: Sequence[TensorDiff]) -> Summary:
    known = [(diff.measured, diff.rounded) for diff in diffs if diff.measured is not None and not diff.whole]
    rounding = None
    if any(rounded for _, rounded in known):
        rounding = Measured.joined([rounded or measured.unchanged() for measured, rounded in known]).distance.angle
    distance = Measured.joined([measured for measured, _ in known]).distance
    if not known:
        distance = replace(distance, reason="nothing to compare")
    layer, group, stack = key
    sides = {diff.only_in for diff in diffs}
    only = sides.pop() if len(sides) == 1 else None
    resized = [diff for diff in diffs if diff.rows_common is not None]
    new, gone = (sum(getattr(diff, key) or 0 for diff in resized) for key in ("rows_new", "rows_gone"))
    checked = [diff.vocabulary for diff in diffs if diff.vocabulary]
    return Summary(
        layer,
        group,
        len(known),
        len(diffs) - len(known),
        distance,
        rounding,
        stack,
        only,
        rows_new=new if resized else None,
        rows_gone=gone if resized else None,
        vocabulary=min(checked, key=(OTHER, UNCHECKED, SAME).index, default=None),
    )


def angles_by_cell(
    diffs: Iterable[TensorDiff], groups: Sequence[str] = KNOWN_GROUPS
) -> Mapping[tuple[Row, str], float | None]:
    """Return angle / pi by layer, of each stack, and group, of what has both."""
    return {
        (row_of(each.stack, each.layer), each.group): each.distance.angle
        for each in summarise(diffs, "cell", groups)
        if each.layer is not None and each.group
    }
