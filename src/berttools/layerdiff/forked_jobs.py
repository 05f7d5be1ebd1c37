"""Run numbered jobs in forked copies of this process: for numpy, whose threads wait for Python's lock.

Why not ``concurrent.futures.ProcessPoolExecutor`` with the fork context, which was tried in its place: layerdiff of two
BERT-base checkpoints (110 million float32 values) took 15 % more processor time (median of 15 runs in turns, 0.51 s for
0.44 s) and 35 MB more memory (135 MB for 100 MB), as the process that waits for results is one more; of two files of
1 GB 17 % and 25 MB; wall time was the same within noise (two cores, Python 3.11). A pool whose parent is killed leaves
its workers waiting for ever, and one whose worker is killed gives up all jobs; here the copies end with their parent,
and what a copy leaves undone is done by this process.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NoReturn

_TOKEN = struct.Struct("<I")
# A pipe takes as much before anybody has read.
_MOST_TOKENS = 65_536 // _TOKEN.size
# Added to the number of a job that raised, which has no result.
_RAISED = 1 << 31


class Crew:
    """Numbered jobs that this process and its copies run in order, each once.

    Close it at the end: copies that still run are ended then.

    Parameters
    ----------
    job
        Takes a number and returns `width` floats. It runs in copies of this process as it is now, so what it
        changes stays there; what it raises is raised by `result`.
    count
        Jobs are 0 to count - 1.
    width
        Floats of a result, up to 500: a message that no other interrupts.
    processes
        How many work, this one counted. Only on Linux are there more than one.
    starts
        Jobs that a run begins with, 0 first, ascending: one process does all of a run, in order. By default each job
        is a run.
    """

    def __init__(
        self,
        job: Callable[[int], Sequence[float]],
        count: int,
        width: int,
        *,
        processes: int,
        starts: Sequence[int] | None = None,
    ) -> None:
        self._job, self._width = job, width
        self._message = struct.Struct(f"<I{width}d")
        self._found: dict[int, Sequence[float]] = {}
        self._raised: set[int] = set()
        self._children: list[int] = []
        self._ends: list[int] = []
        starts = range(count) if starts is None else starts
        stride = -(-len(starts) // _MOST_TOKENS) or 1
        self._runs = dict(pairwise([*starts[::stride], count]))
        if processes > 1 and len(self._runs) > 1 and sys.platform.startswith("linux"):
            self._fork(min(processes, len(self._runs)) - 1)

    def _fork(self, copies: int) -> None:
        tokens, filled = os.pipe()
        for first in self._runs:
            os.write(filled, _TOKEN.pack(first))
        os.close(filled)
        self._results, sending = os.pipe()
        self._tokens, self._ends = tokens, [tokens, self._results]
        self._poll = select.poll()  # not select.select, which knows the first 1,024 files only
        self._poll.register(self._results, select.POLLIN | select.POLLHUP)
        parent = os.getpid()
        # Whoever is interrupted in between is still the one process that goes on.
        for _ in range(copies):
            if (child := os.fork()) == 0:
                self._work(sending, parent)
            self._children.append(child)
        os.close(sending)

    def _work(self, sending: int, parent: int) -> NoReturn:
        """Run jobs in a copy, as long as any are left and the process that wants them is alive."""
        try:
            for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(kind) is not signal.SIG_IGN:  # as nohup has it
                    signal.signal(kind, signal.SIG_DFL)
            os.close(self._results)
            while (first := self._take()) is not None and os.getppid() == parent:
                for number in range(first, self._runs[first]):
                    os.write(sending, self._report(number))
        finally:
            # What is left undone is done where the result is wanted.
            os._exit(0)

    def _report(self, number: int) -> bytes:
        """Run a job; return the message with its result, or that it raised."""
        try:
            return self._message.pack(number, *self._job(number))
        except Exception:  # what it was, whoever wants the result finds by doing the job again
            return self._message.pack(number + _RAISED, *[0.0] * self._width)

    def _take(self) -> int | None:
        token = os.read(self._tokens, _TOKEN.size)
        return _TOKEN.unpack(token)[0] if token else None

    def result(self, number: int) -> Sequence[float]:
        """Return the result of a job, once; run jobs until it is there."""
        while not self._is_done(number) and self._children:
            self._receive(wait=False)
            if self._is_done(number):
                break
            if (first := self._take()) is None:
                if not self._receive(wait=True):
                    break  # all copies have ended, and one of them did not come to this job's end
                continue
            for taken in range(first, self._runs[first]):
                self._keep(self._report(taken))
        return self._found.pop(number) if number in self._found else self._job(number)

    def _receive(self, *, wait: bool) -> bool:
        """Receive what the copies have found so far; False if nothing is to come."""
        size = self._message.size
        while self._poll.poll(None if wait else 0):
            received = os.read(self._results, size * (65_536 // size))
            if not received:
                return False
            while len(received) % size:
                received += os.read(self._results, size - len(received) % size)
            self._keep(received)
            wait = False
        return True

    def _keep(self, messages: bytes) -> None:
        for number, *values in self._message.iter_unpack(messages):
            if number & _RAISED:
                # Raised where its own result is wanted, and not where another one is waited for.
                self._raised.add(number - _RAISED)
            else:
                self._found[number] = values

    def _is_done(self, number: int) -> bool:
        return number in self._found or number in self._raised

    def close(self) -> None:
        """End the copies."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for end in self._ends:
            os.close(end)
        self._children, self._ends = [], []
