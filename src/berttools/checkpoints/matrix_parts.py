"""Which matrix an entry of a stored matrix belongs to: name, layer and group, with fused matrices taken apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from berttools.checkpoints.groups import KNOWN, KNOWN_GROUPS


class MatrixPart(NamedTuple):
    """A stored matrix, or one of several matrices that are stored as one; as a key of sums, fields may be None.

    Attributes
    ----------
    name
        Of the stored matrix.
    layer, group
        As of `berttools.checkpoints.groups.Grouping`.
    part
        Axis, start and stop of the rows (0) or columns (1) of a fused matrix; None for all of it.
    stack
        Which of several stacks the layer is of; None where the model has one.
    """

    name: str | None = None
    layer: int | None = None
    group: str | None = None
    part: tuple[int, int, int] | None = None
    stack: str | None = None

    def select(self, run: NDArray[np.bool_], first: int, whole: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the entries of this part among those from number `first` on of a stored matrix of shape `whole`."""
        if self.part is None:
            return run
        axis, start, stop = self.part
        row, unit = math.prod(whole[1:]), math.prod(whole[axis + 1 :])
        if axis == 0:
            return run[max(0, start * unit - first) : max(0, stop * unit - first)]
        offsets = np.arange(first, first + run.size) % max(1, row)
        return run[(start * unit <= offsets) & (offsets < stop * unit)]

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Return its shape, given that of the stored matrix."""
        if self.part is None:
            return whole
        axis, start, stop = self.part
        return (stop - start, whole[1]) if axis == 0 else (whole[0], stop - start)


Stacks = Mapping[str, str | None]
"""Names of matrices to their stacks, as of `berttools.checkpoints.groups.Grouping.stacks`."""


def matrix_parts(name: str, shape: tuple[int, ...], stacks: Stacks | None = None) -> list[MatrixPart]:
    """Return a stored matrix, or each one that it holds, with layer, group and, where they are given, stack."""
    stack = stacks.get(name) if stacks else None
    return [
        MatrixPart(
            name, part.layer, part.group, None if part.axis is None else (part.axis, part.start, part.stop), stack
        )
        for part in KNOWN.parts(name, shape)
    ]


def whole_matrix(name: str, shape: tuple[int, ...], stacks: Stacks | None = None) -> MatrixPart:
    """Return a stored matrix with its layer, group and stack; one that holds several matrices has no group."""
    first, *rest = matrix_parts(name, shape, stacks)
    return MatrixPart(name, first.layer, None if rest else first.group, stack=first.stack)


def groups_of(parts: Iterable[MatrixPart]) -> list[str]:
    """Return the groups that occur, in the order in which a layer applies them."""
    seen = {part.group for part in parts}
    return [group for group in KNOWN_GROUPS if group in seen]
