"""Actors of a Ray cluster that hold a worker each: replaced where they die, and what they worked on is done again."""

from __future__ import annotations

import importlib
import math
import os
import pickle
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from _toolio.compute.threads import THREAD_PREFIX
from _toolio.engines.engine import Opening, Worker
from _toolio.engines.slots import POLL, Slots
from _toolio.errors import ToolError, param
from _toolio.version import tool_version
from _toolio.words import many

TRIES = 4
"""How often the same items are worked on by actors that die of it, or beside it."""

_PATIENCE = 10
"""Seconds that a cluster has to end or let go of something."""

CALLS = 2
"""Calls that an actor has at a time: the second waits there, so that it is not idle while this process is asked."""

_ROOM = 30
"""Seconds after which whoever waits for room on the cluster is told so."""

_GONE = 15
"""Seconds after which a cluster whose head does not answer has gone. Ray would end this process after 60."""


def ray_module() -> Any:
    """Import Ray, which takes seconds."""
    return importlib.import_module("ray")


def bounded(function: Callable[..., object], *arguments: Any) -> None:
    """Call a function of Ray that waits for the cluster, and go on without it where that has gone."""

    def call() -> None:
        with suppress(Exception):
            function(*arguments)

    # A process that ends while it is alive does not wait for it: see THREAD_PREFIX.
    calling = threading.Thread(target=call, name=f"{THREAD_PREFIX}leave", daemon=True)
    calling.start()
    calling.join(_PATIENCE)


class Pool:
    """Actors that hold a worker each. One that dies is replaced, and what it worked on is done by another.

    Parameters
    ----------
    opening, device
        Opens a worker, on this device.
    count, gpus
        How many actors, and the GPUs of each.
    say
        As of `RayEngine`.
    """

    def __init__(
        self, opening: Opening[Any, Any], device: str, count: int, gpus: float, say: Callable[[str], object]
    ) -> None:
        ray = ray_module()
        self._opening, self._device, self._say, self._gpus = opening, device, say, gpus
        self._kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Station)
        self._head = Head(ray.get_runtime_context().gcs_address)
        self._slots: Slots[Any] = Slots(CALLS)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._busy = self._failures = 0
        self._patience = time.monotonic() + _ROOM
        self.halved_to: int | None = None
        for _ in range(count):
            self._bring_up()

    def _bring_up(self) -> None:
        """Start an actor, which is given work once its worker is open."""
        threading.Thread(target=self._open, name=f"{THREAD_PREFIX}actor", daemon=True).start()

    def _open(self) -> None:
        with self._at_work():
            try:
                self._open_one()
            except _EndedError:
                return
            except BaseException as error:  # raised by whoever needs an actor
                self._slots.fail(error)

    def _open_one(self) -> None:
        errors = ray_module().exceptions
        while not self._stop.is_set():
            actor = self._kind.remote()
            try:
                opened = self._get(actor.open.remote(self._opening, self._device, str(Path.cwd()), tool_version()))
            except errors.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except errors.RayError as error:
                self._forget(actor)
                self._failures += 1
                if self._failures < TRIES:
                    continue
                raise ToolError(f"{param('engine')} ray: no actor comes up: {_line(error)}", kind="actor") from None
            if opened is not None:
                raise opened
            self._failures = 0
            self._slots.add(actor)
            return

    def work(self, items: Sequence[Any]) -> list[Any]:
        """Return what a worker makes of items; wait for one that is free."""
        lost = ""
        with self._at_work():
            for tried in range(TRIES):
                try:
                    # What waits at an actor is lost with it, and nobody can tell which of the two it died of: what was
                    # lost before gets an actor of its own, so that it is not blamed for what another does.
                    return self._work_once(items, alone=tried >= TRIES // 2)
                except _LostError as error:
                    lost = str(error)
        raise ToolError(
            f"{param('engine')} ray: {many(TRIES, 'actor')} died over the same {many(len(items), 'input')}, from"
            f" {items[0]!s:.200}: {lost}; give fewer at a time, or leave them out",
            kind="actor",
        )

    def _work_once(self, items: Sequence[Any], *, alone: bool) -> list[Any]:
        """Return what a worker makes of items; raise _LostError where its actor died."""
        errors = ray_module().exceptions
        actor = self._slots.take_alone(self._wait) if alone else self._slots.take(self._wait)
        self._patience = math.inf
        try:
            found, halved_to = pickle.loads(self._get(actor.work.remote(items)))  # noqa: S301 - of our own
        except errors.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except errors.RayError as error:
            self._replace(actor)
            raise _LostError(_line(error)) from None
        self._slots.give(actor, CALLS if alone else 1)
        if isinstance(found, ToolError):
            raise found
        if halved_to is not None:
            self.halved_to = min(halved_to, self.halved_to or halved_to)
        return list(found)

    def _wait(self) -> None:
        """Raise what ends a wait for an actor; say once that none has come up yet."""
        if self._stop.is_set():
            raise _EndedError
        self._head.check()
        self._complain_of_waiting()

    def _complain_of_waiting(self) -> None:
        """Say once that no actor has come up yet."""
        with self._lock:
            late = time.monotonic() > self._patience
            if late:
                self._patience = math.inf
        if late:
            wants = "1 CPU" + (f" and {self._gpus:g} GPU" if self._gpus else "")
            self._say(f"no actor of {wants} has come up yet: the cluster has no room, or is slow; it is waited for")

    def _get(self, reference: Any) -> Any:
        """Return an actor's answer; end the wait where the run has ended."""
        ray = ray_module()
        while not self._stop.is_set():
            ready, _ = ray.wait([reference], timeout=POLL)
            if ready:
                return ray.get(reference)
            self._head.check()
        raise _EndedError

    def _replace(self, actor: Any) -> None:
        """Start another actor in the place of one that is lost, once."""
        if self._slots.remove(actor):
            self._forget(actor)
            self._bring_up()

    def _forget(self, actor: Any) -> None:
        """End an actor that is lost, or cannot be reached and may still be there."""
        ray = ray_module()
        bounded(ray.kill, actor)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def close(self) -> None:
        """Wait until no thread of this process waits for an actor; all end when it leaves the cluster."""
        self._stop.set()
        end = time.monotonic() + _PATIENCE
        while self._busy and time.monotonic() < end:
            time.sleep(POLL / 5)


class Head:
    """The head of the cluster, which is looked for now and then: without it lost work is given to nobody else.

    Parameters
    ----------
    address
        HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self._address, self._lock = address, threading.Lock()
        self._answered = self._asked = time.monotonic()

    def check(self) -> None:
        """Raise a ToolError if the head has not answered for a while."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked < 1:
                return
            self._asked = now
        with suppress(OSError):
            host, _, port = self._address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            self._answered = time.monotonic()
        if time.monotonic() - self._answered > _GONE:
            raise ToolError(
                f"{param('engine')} ray: the cluster at {self._address} has gone; run again when it is back",
                kind="no-cluster",
            )


class _EndedError(Exception):
    """The run has ended while a thread waited."""


class _LostError(Exception):
    """An actor died, or cannot be reached."""


def _line(error: BaseException) -> str:
    """Return the first line of one of Ray's errors."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


class Station:
    """What an actor is: a process with one worker."""

    _worker: Worker[Any, Any]

    def open(self, opening: Opening[Any, Any], device: str, folder: str, version: str) -> ToolError | None:
        """Open the worker; return what is wrong with it or with this node, in the driver's words."""
        node = socket.gethostname()
        if version != tool_version():
            what = f"{node}: has epsilon-tools {tool_version()}, not {version}; install the same"
            return ToolError(what, kind="node")
        try:
            os.chdir(folder)
        except OSError as error:
            return ToolError(f"{node}: {folder}: {error.strerror}; all nodes must see the same paths", kind="node")
        # The last bits depend on how many threads there are. Whoever computes with it has imported it by now.
        if device == "cpu" and (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        try:
            self._worker = opening(device)
        except ToolError as error:
            return error
        return None

    def work(self, items: Sequence[Any]) -> bytes:
        """Return what the worker makes of items, or the error that ends the run; and how far its batches were halved.

        Pickled: what Ray unpacks itself would hold its shared memory for as long as it is kept.
        """
        try:
            found: list[Any] | ToolError = list(self._worker(items))
        except ToolError as error:
            found = error
        return pickle.dumps((found, self._worker.at_once.halved_to))
