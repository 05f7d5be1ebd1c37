"""Calls that actors have room for: a call goes to the least busy actor, or to one that does nothing else meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

POLL = 0.5
"""Seconds between looks whether the run has ended meanwhile."""

A = TypeVar("A", bound=Hashable)


class Slots(Generic[A]):
    """The actors of a run, and how many more calls each can be given.

    Parameters
    ----------
    calls
        Calls that an actor has at a time.
    """

    def __init__(self, calls: int) -> None:
        self._calls, self._change = calls, threading.Condition()
        self._free: dict[A, int] = {}
        self._kept: set[A] = set()
        self._error: BaseException | None = None

    def add(self, actor: A) -> None:
        """Add an actor that has nothing to do yet."""
        with self._change:
            self._free[actor] = self._calls
            self._change.notify_all()

    def remove(self, actor: A) -> bool:
        """Remove an actor that is lost; return whether it was there."""
        with self._change:
            self._change.notify_all()
            return self._free.pop(actor, None) is not None

    def fail(self, error: BaseException) -> None:
        """Raise an error wherever an actor is asked for."""
        with self._change:
            self._error = error
            self._change.notify_all()

    def give(self, actor: A, calls: int = 1) -> None:
        """Give calls back that have ended."""
        with self._change:
            if actor in self._free:
                self._free[actor] += calls
                self._change.notify_all()

    def take(self, waiting: Callable[[], None]) -> A:
        """Take a call of the least busy actor; call ``waiting`` now and then until there is one."""
        while True:
            with self._change:
                actor = self._least_busy()
                if actor is not None and self._free[actor]:
                    self._free[actor] -= 1
                    return actor
                self._change.wait(POLL)
            waiting()

    def take_alone(self, waiting: Callable[[], None]) -> A:
        """Take all calls of an actor: those that it has are waited for, and it is given no others meanwhile."""
        kept: A | None = None
        try:
            while True:
                with self._change:
                    if kept is None or kept not in self._free:
                        kept = self._keep_another(kept)
                    for actor in (kept, self._least_busy()):
                        if actor is not None and self._free[actor] == self._calls:
                            self._free[actor] = 0
                            return actor
                    self._change.wait(POLL)
                waiting()
        finally:
            with self._change:
                self._kept.discard(kept)
                self._change.notify_all()

    def _keep_another(self, lost: A | None) -> A | None:
        self._kept.discard(lost)
        actor = self._least_busy()
        if actor is not None:
            self._kept.add(actor)
        return actor

    def _least_busy(self) -> A | None:
        """Return the actor with the most room of those that nobody waits for; raise what `fail` was given."""
        if self._error is not None:
            raise self._error
        return max((each for each in self._free if each not in self._kept), key=self._free.__getitem__, default=None)
