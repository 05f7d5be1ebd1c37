"""Distributed training: the processes that ``torchrun`` starts, and what they exchange besides gradients."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from _toolio.errors import ToolError, UsageError, param

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """The rank of a process, and the world size.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many processes there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which measures, writes and reports."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's part of a step's items."""
        return items[self.rank :: self.world]

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """Wrap a module so that gradients are averaged over the processes (DistributedDataParallel)."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, broadcast_buffers=False)

    def agree(self, value: Any) -> Any:
        """Broadcast rank 0's value, anything JSON can say, to every process, and return it."""
        if self.world == 1:
            return value
        return _board().exchange(value if self.leads else None, self, sources=[0])[0]

    def total(self, value: float) -> float:
        """Return the sum of all processes' values (all-reduce)."""
        if self.world == 1:
            return value
        return float(sum(_board().exchange(value, self, sources=range(self.world))))


class Board:
    """Exchange small values between processes, through the store by which they have met.

    A tensor would travel faster, but one that Python has made may be let go of last by a thread of gloo's, which then
    waits for the interpreter: if that is on its way out, the process hangs or aborts after all its work is done.

    Parameters
    ----------
    store
        A store of torch.distributed, the same one in every process.
    """

    def __init__(self, store: Any) -> None:
        self._store, self._count = store, 0

    def exchange(self, value: Any, own: Processes, sources: Iterable[int]) -> list[Any]:
        """Return the values of some processes, in the order of `sources`; every process calls this at the same step."""
        sources = list(sources)
        name, self._count = f"told/{self._count}", self._count + 1
        if own.rank in sources:
            self._store.set(f"{name}/{own.rank}", json.dumps(value).encode())
        found = [value if rank == own.rank else json.loads(self._wait(f"{name}/{rank}")) for rank in sources]
        # The last to have read it deletes it.
        if self._store.add(f"{name}/read", 1) == own.world:
            for key in (*(f"{name}/{rank}" for rank in sources), f"{name}/read"):
                self._store.delete_key(key)
        return found

    def leave(self, own: Processes) -> None:
        """Wait until all are done: rank 0 may be the process that keeps the store, and ends last."""
        if not own.leads:
            self._store.set(f"left/{own.rank}", b"1")
            return
        for rank in range(1, own.world):
            self._wait(f"left/{rank}")

    def _wait(self, key: str) -> bytes:
        import torch.distributed

        while True:  # in short spans: between them signals are handled
            try:
                self._store.wait([key], timedelta(seconds=1))
                return bytes(self._store.get(key))
            except torch.distributed.DistStoreError:
                if self._store.check([_FAILED]):
                    raise ToolError(f"process {self._store.get(_FAILED).decode()} has failed", kind="process") from None
            except torch.distributed.DistNetworkError:
                raise ToolError("the leading process has gone; see what it said", kind="process") from None

    def fail(self, own: Processes) -> None:
        """Report this process's failure, so that the others stop waiting."""
        with suppress(RuntimeError):  # the store may have gone too
            self._store.set(_FAILED, str(own.rank))


_FAILED = "failed"
_boards: list[Board] = []


def _board() -> Board:
    assert _boards, "processes agree inside the block of join"
    return _boards[-1]


def count_processes(environ: Callable[[str], str | None] = os.environ.get) -> Processes:
    """Return this process's rank and the world size, from RANK and WORLD_SIZE.

    Raises
    ------
    UsageError
        They are not as ``torchrun`` sets them.
    """
    try:
        rank, world = int(environ("RANK") or 0), int(environ("WORLD_SIZE") or 1)
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        raise UsageError(
            f"RANK={environ('RANK')} and WORLD_SIZE={environ('WORLD_SIZE')} do not go together; unset them"
        )
    return Processes(rank, world)


@contextmanager
def join(processes: Processes, device: torch.device) -> Iterator[None]:
    """Join the process group at the address that ``torchrun`` has set. With one process nothing is done."""
    if processes.world == 1:
        yield
        return
    import torch.distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if device.type == "cuda":
        torch.cuda.set_device(device)  # collectives go through the current device
    # One of them may work for hours while the others wait.
    patience = timedelta(days=1)
    store, rank, world = next(rendezvous("env://", processes.rank, processes.world, timeout=patience))
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)
    _boards.append(Board(PrefixStore("board", store)))
    try:
        yield
        _board().leave(processes)
    except BaseException:
        _board().fail(processes)
        raise
    finally:
        _boards.pop()
        torch.distributed.destroy_process_group()


def device_of(processes: Processes, spec: str) -> str:
    """Return a GPU of its own for each process if `spec` leaves that open; UsageError if it names one for all."""
    if processes.world > 1 and spec.startswith("cuda:"):
        raise UsageError(
            f"{param('device')} {spec}: {processes.world} processes would share it; give {param('device')} cuda"
        )
    if processes.world == 1 or spec not in ("auto", "cuda"):
        return spec
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else spec


def hush(processes: Processes) -> None:
    """Discard the records of all processes but rank 0."""
    if not processes.leads:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays stdout to the end
