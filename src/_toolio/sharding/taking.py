"""In which order a worker takes shards while others take them too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from _toolio.files.claims import BusyError, claim_file
from _toolio.sharding.folder import ShardFolder

_PAUSE_S = 1.0
"""How often to look again at shards that others are making, when nothing else is left."""


def take_each(
    folder: ShardFolder,
    numbers: Iterable[int],
    make: Callable[[int], None],
    *,
    on_waiting: Callable[[list[int]], None],
) -> list[int]:
    """Make shards, those last that somebody else is making, or was when it was killed.

    What others are making is waited for: if one of them dies, its shard is made here. A shard that kills whoever makes
    it is so tried when all others are done.

    Parameters
    ----------
    folder
        Where the shards go.
    numbers
        Of the shards.
    make
        Makes one, or finds that it is whole; raises `BusyError` where another run has it.
    on_waiting
        Called once, with the shards that are waited for.

    Returns
    -------
    list of int
        Shards that runs on other machines hold, or held: whether those live cannot be known here.
    """
    left, others, waited = list[int](), list[int](), False
    for number in numbers:
        if claim_file(folder.records(number)).exists():
            left.append(number)
            continue
        _try(make, number, left, others)
    while left:
        before, left = left, []
        for number in before:
            _try(make, number, left, others)
        if left == before:
            if not waited:
                on_waiting(left)
                waited = True
            time.sleep(_PAUSE_S)
    return sorted(others)


def _try(make: Callable[[int], None], number: int, left: list[int], others: list[int]) -> None:
    """Make a shard, or add it to those that are left, or to those that others hold out of sight."""
    try:
        make(number)
    except BusyError as error:
        (left if error.sure else others).append(number)
