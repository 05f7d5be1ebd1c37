"""How a library function lets its caller show progress: it passes what it iterates over through a function.

And how what shows it counts the items that are kept where a run is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Pass items on and show how many are done, as `_toolio.cli.progress.track` does on a terminal."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None, /) -> Iterable[T]:
        """Return the items.

        Parameters
        ----------
        items
            What is iterated over.
        what
            Two or three words that name the work.
        total
            Number of items, where it is known.
        """


def no_progress(items: Iterable[T], what: str, total: int | None = None, /) -> Iterable[T]:
    """Return the items and show nothing."""
    del what, total
    return items


@dataclass(slots=True)
class Kept:
    """How many items of a run are done, each of which is kept when the next is taken.

    Attributes
    ----------
    done, total
        Their number, and that of all; ``total`` None where it is not known.
    """

    done: int = 0
    total: int | None = None


_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


def count_kept(items: Iterable[T], total: int | None) -> Iterator[T]:
    """Yield items that are kept, and count them for the block of `counting_kept`; at their end none is left to do."""
    kept = _kept.get() or Kept()
    kept.done, kept.total = 0, total
    for item in items:
        yield item
        kept.done += 1
    kept.done = 0


@contextmanager
def counting_kept() -> Iterator[Kept]:
    """Count the items that `count_kept` yields inside the block."""
    token = _kept.set(kept := Kept())
    try:
        yield kept
    finally:
        _kept.reset(token)
