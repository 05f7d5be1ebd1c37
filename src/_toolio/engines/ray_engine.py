"""The engine on a Ray cluster: actors hold a worker each, and this process deals out items to them and keeps the order.

Why actors and not Ray Data: Ray Data reads a finished collection, or a source that its own tasks read on the cluster.
Here items come one by one from this process (paths on stdin, records of a pipe), are to be worked on as they come, and
what becomes of each is wanted here, in order, for one journal and one folder. That is a bounded window over actors.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypeVar

from _toolio.compute.threads import ordered
from _toolio.engines.engine import Opening, Worker, in_groups
from _toolio.engines.ray_actors import CALLS, Pool, bounded, ray_module
from _toolio.errors import ToolError, UsageError, param
from _toolio.foreign_code import STDERR, discarded
from _toolio.words import many

T = TypeVar("T")
R = TypeVar("R")

ADDRESS = "RAY_ADDRESS"
"""The variable that names the cluster to join."""

AUTH_MODE = "RAY_AUTH_MODE"
"""The variable that says whether a cluster asks for a token."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its own log goes to stderr, and is no line about what to do
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns that this will be so
    "RAY_worker_niceness": "0",  # else actors of a cluster that is started here get what other processes leave: 15
}


class RayEngine:
    """Run workers in actors of the cluster that RAY_ADDRESS names, or of one that is started on this machine.

    The work is done inside its ``with`` block.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``: what each actor works on.
    actors
        How many; None: as many as the cluster has room for when the work begins.
    gpus_per_actor
        GPUs of each, or the share of one; None: one where the cluster has any and ``device`` allows it.
    say
        Called with a line where the cluster has no room for any actor, and is waited for.

    Raises
    ------
    UsageError
        A GPU is named by number, or is wanted and not wanted at once.
    ToolError
        Ray is not installed.
    """

    here = "cpu"

    def __init__(
        self,
        device: str,
        *,
        actors: int | None = None,
        gpus_per_actor: float | None = None,
        say: Callable[[str], object] = warnings.warn,
    ) -> None:
        if device.startswith("cuda:"):
            name = param("device")
            raise UsageError(f"{name} {device}: an actor sees its own GPUs alone; give {name} cuda")
        if (device == "cpu" and gpus_per_actor) or (device == "cuda" and gpus_per_actor == 0):
            raise UsageError(f"{param('device')} {device} and {param('gpus_per_actor')} {gpus_per_actor:g}: give one")
        if find_spec("ray") is None:
            raise ToolError(
                f"{param('engine')} ray: Ray is not installed; pip install 'epsilon-tools[ray]'", kind="missing-package"
            )
        self._device, self._actors, self._gpus, self._say = device, actors, gpus_per_actor, say
        self._pool: Pool | None = None
        self._folder: str | None = None
        self._token = dict[str, str]()

    def __enter__(self) -> Self:
        address = os.environ.get(ADDRESS) or "local"
        if address == "local":
            self._folder = _session_folder()
            self._token = _token_of_its_own()
        try:
            _connect(address, self._folder)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()
        self._leave()

    def _leave(self) -> None:
        if (ray := sys.modules.get("ray")) is not None:
            with _signals_kept():
                bounded(ray.shutdown)
        for name in self._token:
            os.environ.pop(name, None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def halved_to(self) -> int | None:
        """The fewest things that a worker works on together now, if memory ran out; else None."""
        return self._pool.halved_to if self._pool else None

    def map(
        self,
        opening: Opening[T, R],
        items: Iterable[T],
        worker: Worker[T, R] | None = None,
        *,
        batch: int,
        on_cpu: int | None = None,
    ) -> Iterator[R]:
        """Yield what actors make of items; see `_toolio.engines.engine.Engine`.

        Raises
        ------
        ToolError
            As of the worker; the cluster has no such GPU or is gone; or actors died again and again of the same items.
        """
        del worker  # it is in this process, which deals out
        gpus, count = self._resources()
        device = self._device if gpus else "cpu"
        self._pool = pool = Pool(opening, device, count, gpus, self._say)
        sent = batch if gpus or on_cpu is None else on_cpu
        return _drained(pool, ordered(pool.work, in_groups(items, sent), workers=CALLS * count))

    def _resources(self) -> tuple[float, int]:
        """Return the GPUs of each actor, and how many actors there are."""
        ray = ray_module()
        found = ray.cluster_resources()
        gpus = self._gpus
        if gpus is None:
            gpus = 1 if found.get("GPU") and self._device != "cpu" else 0
        if self._device == "cuda" and not gpus:
            raise ToolError(
                f"{param('device')} cuda: the cluster has no GPU; use {param('device')} auto", kind="no-gpu"
            )
        if self._folder is not None and gpus > found.get("GPU", 0):  # one that others keep up can get more nodes
            raise ToolError(
                f"{param('gpus_per_actor')} {gpus:g}: this machine has {many(int(found.get('GPU', 0)), 'GPU')} that Ray"
                " can use; give fewer, or leave it out",
                kind="no-gpu",
            )
        room = [found.get("CPU", 1), *([found.get("GPU", 0) / gpus] if gpus else [])]
        return gpus, self._actors or max(1, int(min(room)))


def _drained(pool: Pool, groups: Iterator[list[R]]) -> Iterator[R]:
    try:
        yield from chain.from_iterable(groups)
    finally:
        pool.close()


def _session_folder() -> str:
    """Make a folder for what a cluster of this run keeps; the names of its sockets have room for 107 bytes alone."""
    long = len(tempfile.gettempdir()) > 30
    return tempfile.mkdtemp(prefix="ray-", dir="/tmp" if long and Path("/tmp").is_dir() else None)  # noqa: S108


def _token_of_its_own() -> dict[str, str]:
    """Set a token for a cluster of this run, where none is set; return what was set.

    By itself Ray writes one into the home folder, where it stays.
    """
    if AUTH_MODE in os.environ or "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return {}
    token = {AUTH_MODE: "token", "RAY_AUTH_TOKEN": _new_token()}
    os.environ.update(token)
    return token


@cache
def _new_token() -> str:
    """Return this process's token: Ray reads it once, and a run over several shards starts several clusters."""
    return secrets.token_hex(32)


def _connect(address: str, folder: str | None) -> None:
    """Join a cluster, or start one; ToolError in one line if there is none."""
    _refuse_unreachable(address)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    started: dict[str, Any] = {"include_dashboard": False, "_temp_dir": folder} if folder else {}
    with _signals_kept(), discarded(STDERR):  # its C++ says there how much it will say
        ray = ray_module()
    try:
        with _signals_kept(), discarded(STDERR):
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **started)
        # It prints on stdout, among the records, which process has died. No option keeps it from that.
        ray._private.worker._worker_logs_enabled = False
    except (ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        what = f"{ADDRESS} {address}: no cluster to join" if folder is None else "no cluster can be started here"
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        # A cluster that wants a token does not say so: it seems not to answer.
        named = not folder and address != "auto"
        asked = named and isinstance(error, ConnectionError) and AUTH_MODE not in os.environ
        advice = f"; if it has been started with a token, set {AUTH_MODE}=token" if asked else ""
        raise ToolError(f"{what}: {reason}{advice}", kind="no-cluster") from None


def _refuse_unreachable(address: str) -> None:
    """Raise if nobody listens at HOST:PORT: Ray itself finds that out in two minutes."""
    if "://" in address:
        raise ToolError(
            f"{ADDRESS} {address}: is no HOST:PORT; run this on a node of the cluster, and give the address that"
            " `ray start` printed",
            kind="no-cluster",
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(
            f"{ADDRESS} {address}: nobody answers there ({reason}); is the cluster up?", kind="no-cluster"
        ) from None


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep this process's own ways to end: Ray puts others in their place."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
