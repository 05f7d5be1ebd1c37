"""A progress bar and a closing line on stderr, only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from _toolio.progress import count_kept
from _toolio.words import printable

T = TypeVar("T")


def track(
    items: Iterable[T], what: str, total: int | None = None, *, resumes: bool = False, done: int = 0
) -> Iterator[T]:
    """Yield the items, showing how many are done.

    Parameters
    ----------
    items
        Any values.
    what
        Two or three words in front of the bar.
    total
        Number of items, where it is known.
    resumes
        What was done of an item is kept when the next is taken, and another run goes on from there: see
        `_toolio.cli.interrupts`. A training has its checkpoint for that.
    done
        Number of items that an earlier run has done; ``total`` counts them, too.
    """
    if resumes:
        items = count_kept(items, total)
    if not _is_watched():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # transient: records that follow on the same terminal are not broken by a finished bar.
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)


def close_with(line: str) -> None:
    """Print a line that sums a run up."""
    if _is_watched():
        sys.stderr.write(f"{printable(line)}\n")


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
