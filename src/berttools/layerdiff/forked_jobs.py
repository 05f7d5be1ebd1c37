"""Dealing jobs out to forked copies of this process: for numpy, whose threads wait for Python's lock."""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

_TOKEN = struct.Struct("<I")
# A pipe takes as much before anybody has read.
_MOST_TOKENS = 65_536 // _TOKEN.size


def most_processes() -> int:
    """Give the cores that this process may use, at most 4: each process has memory of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


class Crew:
    """Numbered jobs that this process and its copies work off in order; none is done twice.

    Close it at the end: the copies end then, if they have not before.

    Parameters
    ----------
    job
        Takes a number and gives as many floats as `width`. It runs in copies of this process as it is now, so what it
        changes stays there; what it raises is raised by `result`.
    count
        Jobs are 0 to count - 1.
    width
        Floats of a result, up to 500: a message that no other interrupts.
    processes
        How many work, this one counted. Only on Linux are there more than one.
    """

    def __init__(self, job: Callable[[int], Sequence[float]], count: int, width: int, *, processes: int) -> None:
        self._job, self._count = job, count
        self._message = struct.Struct(f"<I{width}d")
        self._found: dict[int, Sequence[float]] = {}
        self._children: list[int] = []
        self._ends: list[int] = []
        if processes > 1 and count > 1 and sys.platform.startswith("linux"):
            self._fork(min(processes, count) - 1)

    def _fork(self, copies: int) -> None:
        self._stride = -(-self._count // _MOST_TOKENS)
        tokens, filled = os.pipe()
        for first in range(0, self._count, self._stride):
            os.write(filled, _TOKEN.pack(first))
        os.close(filled)
        self._results, said = os.pipe()
        self._tokens, self._ends = tokens, [tokens, self._results]
        self._ear = select.poll()  # not select.select, which knows the first 1,024 files only
        self._ear.register(self._results, select.POLLIN | select.POLLHUP)
        parent = os.getpid()
        # Whoever is interrupted in between is still the one process that goes on.
        for _ in range(copies):
            if (child := os.fork()) == 0:
                self._work(said, parent)
            self._children.append(child)
        os.close(said)

    def _work(self, said: int, parent: int) -> NoReturn:
        """Be a copy: take jobs as long as there are any, and the process that wants them is."""
        try:
            for kind in (signal.SIGINT, signal.SIGTERM):
                signal.signal(kind, signal.SIG_DFL)
            os.close(self._results)
            while (first := self._take()) is not None and os.getppid() == parent:
                for number in range(first, min(first + self._stride, self._count)):
                    os.write(said, self._message.pack(number, *self._job(number)))
        finally:
            # What went wrong is raised where the result is wanted: there the job is done again.
            os._exit(0)

    def _take(self) -> int | None:
        token = os.read(self._tokens, _TOKEN.size)
        return _TOKEN.unpack(token)[0] if token else None

    def result(self, number: int) -> Sequence[float]:
        """Give the result of a job, once; work until it is there."""
        while number not in self._found and self._children:
            self._hear(wait=False)
            if number in self._found:
                break
            if (first := self._take()) is None:
                if not self._hear(wait=True):
                    break  # all copies have ended, one of them by something that went wrong in this job
                continue
            for taken in range(first, min(first + self._stride, self._count)):
                self._found[taken] = self._job(taken)
        return self._found.pop(number) if number in self._found else self._job(number)

    def _hear(self, *, wait: bool) -> bool:
        """Take in what the copies have found so far; False if there is nothing to come."""
        size = self._message.size
        while self._ear.poll(None if wait else 0):
            heard = os.read(self._results, size * (65_536 // size))
            if not heard:
                return False
            while len(heard) % size:
                heard += os.read(self._results, size - len(heard) % size)
            for number, *values in self._message.iter_unpack(heard):
                self._found[number] = values
            wait = False
        return True

    def close(self) -> None:
        """End the copies."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for end in self._ends:
            os.close(end)
        self._children, self._ends = [], []
