"""Apply a function to several items at once; yield the results in the order of the items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

THREAD_PREFIX = "epsilon-tools-"
"""Begins the names of the threads here; a process that ends while one is alive must not wait for it."""

T = TypeVar("T")
R = TypeVar("R")


class _Slot(Generic[R]):
    """A result that may still be on its way."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: R | None = None
        self.error: BaseException | None = None


def ordered(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Generator[R, None, None]:
    """Apply a function to items in threads; yield each result as soon as it and all before it are there.

    One more thread draws the items, at most ``workers`` ahead of what is being worked on. An exception of the
    function or of ``items`` is raised in its place in the order, and ends the work. Threads are daemons: a run
    that is interrupted does not wait for them.

    Parameters
    ----------
    function
        Must be safe to call from several threads.
    items
        Drawn one at a time, by one thread.
    workers
        How many items are worked on at once, 1 or more.
    """
    stop = threading.Event()
    waiting: queue.Queue[tuple[T, _Slot[R]] | None] = queue.Queue(workers)
    in_order: queue.Queue[_Slot[R] | None] = queue.Queue(2 * workers)

    def put(where: queue.Queue[object], what: object) -> None:
        while not stop.is_set():
            try:
                where.put(what, timeout=0.1)
                return
            except queue.Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                slot: _Slot[R] = _Slot()
                put(in_order, slot)  # type: ignore[arg-type]
                put(waiting, (item, slot))  # type: ignore[arg-type]
                if stop.is_set():
                    return
        except BaseException as error:
            broken: _Slot[R] = _Slot()
            broken.error = error
            broken.done.set()
            put(in_order, broken)  # type: ignore[arg-type]
        finally:
            put(in_order, None)  # type: ignore[arg-type]
            for _ in range(workers):
                put(waiting, None)  # type: ignore[arg-type]

    def work() -> None:
        while not stop.is_set():
            try:
                job = waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            if job is None:
                return
            item, slot = job
            try:
                slot.result = function(item)
            except BaseException as error:
                slot.error = error
            slot.done.set()

    for target in (draw, *[work] * workers):
        threading.Thread(target=target, name=f"{THREAD_PREFIX}{target.__name__}", daemon=True).start()
    try:
        while (slot := in_order.get()) is not None:
            slot.done.wait()
            if slot.error is not None:
                raise slot.error
            yield slot.result  # type: ignore[misc]
    finally:
        stop.set()
