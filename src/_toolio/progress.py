"""How a library function lets its caller show progress: it passes what it iterates over through a function."""

from __future__ import annotations

from collections.abc import Iterable
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
