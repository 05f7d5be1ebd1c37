"""Where a matrix's entries belong: its name, layer and group, taken apart where it is fused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from berttools.checkpoints.groups import GROUPS, KNOWN

Bools = NDArray[np.bool_]


class Spot(NamedTuple):
    """Which matrix something was counted in, or, None where they differ, in which matrices.

    `part`: axis, start and stop, where it is one of several matrices that are stored as one.
    """

    name: str | None = None
    layer: int | None = None
    group: str | None = None
    part: tuple[int, int, int] | None = None

    def of_run(self, run: Bools, first: int, whole: tuple[int, ...]) -> Bools:
        """Give what is of it among the entries from number `first` on of a stored matrix of shape `whole`."""
        if self.part is None:
            return run
        axis, start, stop = self.part
        row, unit = math.prod(whole[1:]), math.prod(whole[axis + 1 :])
        if axis == 0:
            return run[max(0, start * unit - first) : max(0, stop * unit - first)]
        places = np.arange(first, first + run.size) % max(1, row)
        return run[(start * unit <= places) & (places < stop * unit)]

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Give its shape, of the stored matrix's."""
        if self.part is None:
            return whole
        axis, start, stop = self.part
        return (stop - start, whole[1]) if axis == 0 else (whole[0], stop - start)


def spots_of(name: str, shape: tuple[int, ...]) -> list[Spot]:
    """Place a stored matrix, or each that it holds."""
    return [
        Spot(name, part.layer, part.group, None if part.axis is None else (part.axis, part.start, part.stop))
        for part in KNOWN.parts(name, shape)
    ]


def spot_of(name: str, shape: tuple[int, ...]) -> Spot:
    """Place a stored matrix as a whole; one that holds several has no group."""
    first, *rest = spots_of(name, shape)
    return Spot(name, first.layer, None if rest else first.group)


def group_names(spots: Iterable[Spot]) -> list[str]:
    """Give the groups there are, in the order in which a layer applies them."""
    seen = {spot.group for spot in spots}
    return [group for group in GROUPS if group in seen]
