"""Engines: what runs a worker on many items, in this process or on a cluster, and yields results in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from _toolio.compute.threads import ordered

if TYPE_CHECKING:
    import torch

    from _toolio.compute.memory import Batch

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Worker(Protocol[T_contra, R_co]):
    """What works on items: state that is opened once, and is then called with some items at a time.

    Attributes
    ----------
    device
        Where it computes; None is the CPU, without torch.
    threads
        How many threads may call it at a time, each computing on one thread of the CPU; 0: only the one that opened it,
        and it computes on as many as it likes.
    per_call
        How many items to call it with.
    at_once
        How many things it works on together now, fewer where memory ran out.
    """

    threads: int
    per_call: int
    at_once: Batch

    @property
    def device(self) -> torch.device | None:
        """See above."""

    def __call__(self, items: Sequence[T_contra], /) -> Iterable[R_co]:
        """Return what is made of the items, in their order: plain data, if another process is to be sent it."""


Opening = Callable[[str], Worker[T, R]]
"""Opens a worker on a device (``auto``, ``cpu``, ``cuda`` or ``cuda:N``); another process can be sent it."""


class Engine(Protocol):
    """Runs workers, inside its ``with`` block.

    Attributes
    ----------
    here
        The device on which to open a worker in this process.
    halved_to
        The fewest things that a worker works on together now, if memory ran out; else None.
    """

    here: str

    def __enter__(self) -> Self:
        """Get ready to run workers."""

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""

    @property
    def halved_to(self) -> int | None:
        """See above."""

    def map(
        self,
        opening: Opening[T, R],
        items: Iterable[T],
        worker: Worker[T, R] | None = None,
        *,
        batch: int,
        on_cpu: int | None = None,
    ) -> Iterator[R]:
        """Yield what workers make of items, in the order of the items.

        Parameters
        ----------
        opening
            Opens a worker.
        items
            Drawn as they are worked on, and never all held.
        worker
            One that `opening` has opened in this process already, on the device `here`.
        batch, on_cpu
            How many items another process is sent at a time, and how many if it computes on a CPU; None: as many.
        """


class LocalEngine:
    """Run one worker in this process, in threads where it allows that.

    Parameters
    ----------
    device
        The device that it works on.
    """

    def __init__(self, device: str) -> None:
        self.here = device
        self._at_once: Batch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""

    @property
    def halved_to(self) -> int | None:
        """How many things the worker works on together now, if memory ran out."""
        return self._at_once.halved_to if self._at_once else None

    def map(
        self,
        opening: Opening[T, R],
        items: Iterable[T],
        worker: Worker[T, R] | None = None,
        *,
        batch: int = 1,
        on_cpu: int | None = None,
    ) -> Iterator[R]:
        """Yield what the worker makes of items; see `Engine`. How many it is called with is for it to say."""
        del batch, on_cpu
        opened = worker or opening(self.here)
        self._at_once = opened.at_once
        groups = in_groups(items, opened.per_call)
        if not opened.threads:
            return chain.from_iterable(map(opened, groups))
        return _in_threads(opened, groups)


def _in_threads(worker: Worker[T, R], groups: Iterable[Sequence[T]]) -> Iterator[R]:
    from _toolio.compute.device import one_thread

    def work(group: Sequence[T]) -> list[R]:
        return list(worker(group))

    with one_thread(worker.device):  # each of the workers
        yield from chain.from_iterable(ordered(work, groups, workers=worker.threads))


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` consecutive items; the last may be shorter."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group
