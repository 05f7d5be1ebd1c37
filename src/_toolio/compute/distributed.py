"""Distributed training: the processes that ``torchrun`` starts, and what they exchange besides gradients."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from _toolio.compute.threads import THREAD_PREFIX
from _toolio.errors import ToolError, UsageError, param

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
P = ParamSpec("P")

LATEST_START = timedelta(minutes=10)
"""How long processes wait for those that start later, on other hosts."""

LONGEST_STEP = timedelta(minutes=10)
"""How long a gradient is waited for. Whatever takes longer, such as measuring, is waited for by `Processes.agree`."""


BEAT_S, SILENCE_S = 5.0, 120.0
"""How often a process shows that it lives, and after what silence it is taken for gone: one may be busy for a while, or
wait for a core."""


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

        self.agree(None)  # who comes later than a step may take is waited for here
        # Before torch 2.13 by another name, by which those of the leading process are not sent at the beginning either;
        # all processes open or draw the same.
        new = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
        never: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DistributedDataParallel(module, **never)

    def agree(self, value: Any) -> Any:
        """Broadcast rank 0's value, anything JSON can say, to every process, and return it; others' do not count."""
        if self.world == 1:
            return value
        return _board().exchange(value if self.leads else None, self, sources=[0])[0]

    def check_same(self, about: Mapping[str, Any]) -> None:
        """Raise a ToolError if this process's inputs or arguments are not those of rank 0; all call this."""
        if self.world == 1:
            return
        for key, value in self.agree(about).items():
            if json.loads(json.dumps(about.get(key))) != value:
                where = f"{key} of process {self.rank} is not that of process 0"
                raise ToolError(f"{where}; give all hosts the same files and arguments", kind="process")

    def total(self, value: float) -> float:
        """Return the sum of all processes' values (all-reduce)."""
        if self.world == 1:
            return value
        return float(sum(_board().exchange(value, self, sources=range(self.world))))

    def broadcast(self, tensors: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
        """Broadcast rank 0's tensors by name, and return them, on the CPU; the other processes give None."""
        if self.world == 1:
            return dict(tensors or {})
        import torch

        own = tensors or {}
        forms = self.agree({key: [str(each.dtype), list(each.shape)] for key, each in own.items()})
        device = _board().device
        found = {}
        for key, (dtype, shape) in forms.items():
            made = own[key] if self.leads else torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            # As bytes, of which every backend knows how to send any number.
            sent = made.contiguous().reshape(-1).view(torch.uint8).to(device)
            if sent.numel():
                torch.distributed.broadcast(_board().hold(sent), 0)
            found[key] = sent.cpu().view(made.dtype).reshape(shape)
        return found

    def sum_in_place(self, tensor: torch.Tensor) -> None:
        """Replace a tensor's values by their sums over the processes."""
        if self.world > 1:
            import torch

            torch.distributed.all_reduce(_board().hold(tensor))


class Board:
    """Exchange small values between processes, through the store by which they have met.

    A tensor would travel faster, but one that Python has made may be let go of last by a thread of gloo's, which then
    waits for the interpreter: if that is on its way out, the process hangs or aborts after all its work is done. So
    those that do travel are held here, each until a few others have travelled after it.

    Parameters
    ----------
    store
        A store of torch.distributed, the same one in every process.
    device
        Where this process computes.
    """

    def __init__(self, store: Any, device: torch.device | None = None) -> None:
        self._store, self._count, self.device = store, 0, device
        self._held: deque[torch.Tensor] = deque(maxlen=8)

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor that is about to travel."""
        self._held.append(tensor)
        return tensor

    def exchange(self, value: Any, own: Processes, sources: Iterable[int]) -> list[Any]:
        """Return the values of some processes, in the order of `sources`; every process calls this at the same step."""
        sources = list(sources)
        name, self._count = f"told/{self._count}", self._count + 1
        if own.rank in sources:
            self._store.set(f"{name}/{own.rank}", json.dumps(value).encode())
        found = [value if rank == own.rank else json.loads(self._wait(f"{name}/{rank}", rank)) for rank in sources]
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
            self._wait(f"left/{rank}", rank)

    @contextmanager
    def beating(self, own: Processes) -> Iterator[None]:
        """Show the others that this process lives, in a thread, inside the block."""
        stop = threading.Event()

        def beat() -> None:
            number = 0
            with suppress(RuntimeError):  # the store has gone: whoever waits for something says so
                while not stop.is_set():
                    number += 1
                    self._store.set(f"lives/{own.rank}", str(number))
                    stop.wait(BEAT_S)

        thread = threading.Thread(target=beat, name=f"{THREAD_PREFIX}beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(BEAT_S)

    def _wait(self, key: str, rank: int) -> bytes:
        """Return what a process has set, or will."""
        import torch.distributed

        pause_s, beat, heard = 0.005, b"", time.monotonic()
        try:
            # Not the store's own waiting: no signal interrupts it, and where it runs out torch prints lines of its own.
            while not self._store.check([key]):
                if self._store.check([_FAILED]):
                    raise self.loss()
                if self._store.check([lives := f"lives/{rank}"]) and (last := self._store.get(lives)) != beat:
                    beat, heard = last, time.monotonic()
                if time.monotonic() - heard > SILENCE_S:
                    raise self.loss()
                time.sleep(pause_s)
                pause_s = min(1.5 * pause_s, 0.25)
            return bytes(self._store.get(key))
        except torch.distributed.DistError:
            raise self.loss() from None

    def loss(self) -> ToolError:
        """Return the error of a process that has lost another one."""
        try:
            failed = self._store.get(_FAILED).decode() if self._store.check([_FAILED]) else None
        except RuntimeError:
            return ToolError("the leading process has gone; see what it said", kind="process")
        if failed is not None:
            return ToolError(f"process {failed} has failed; see what it said", kind="process")
        return ToolError(
            f"another process, or its host, has gone; start all of them again with {param('resume')}", kind="process"
        )

    def fail(self, own: Processes) -> None:
        """Report this process's failure, so that the others stop waiting; the first to fail is the one they name."""
        with suppress(RuntimeError):  # the store may have gone too
            self._store.compare_set(_FAILED, "", str(own.rank))


_FAILED = "failed"
_BOARD = "board"
_LOST = re.compile(r"gloo|connection (was )?(closed|reset|refused)|broken pipe|timed out waiting", re.IGNORECASE)
"""What torch says where another process does not answer and it has no class of error for that."""

_boards: list[Board] = []
_joined: list[bool] = []
"""Holds something once this process has met the others."""


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
    """Join the process group at the address that ``torchrun`` has set. With one process nothing is done.

    Raises
    ------
    UsageError
        No address is set.
    ToolError
        Another process, or its host, has failed or gone: inside the block, too.
    """
    if processes.world == 1:
        yield
        return
    import torch.distributed
    from torch.distributed.distributed_c10d import PrefixStore

    if device.type == "cuda":
        torch.cuda.set_device(device)  # collectives go through the current device
    store = _meet(processes, LATEST_START)
    board = Board(PrefixStore(_BOARD, store), device)
    _joined.append(True)
    _boards.append(board)
    try:
        with board.beating(processes):
            # Who fails before it comes here has said so on the board, where torch would wait.
            board.exchange(None, processes, sources=range(processes.world))
            torch.distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store, rank=processes.rank, world_size=processes.world, timeout=LONGEST_STEP,
            )  # fmt: skip
            yield
            board.leave(processes)
    except BaseException as error:
        lost = board.loss() if _is_lost(error) else None
        board.fail(processes)
        if lost is not None:
            raise lost from None
        raise
    finally:
        _boards.pop()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _meet(processes: Processes, patience: timedelta) -> Any:
    """Return the store by which the processes meet."""
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    try:
        store, *_ = next(rendezvous("env://", processes.rank, processes.world, timeout=patience))
    except ValueError:
        raise UsageError(
            f"WORLD_SIZE={processes.world}, and MASTER_ADDR or MASTER_PORT is not set; start it with torchrun, or unset"
            " WORLD_SIZE and RANK"
        ) from None
    except torch.distributed.DistError:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise ToolError(f"no leading process at {where}; see what it said, and start all again") from None
    return store


def _is_lost(error: BaseException) -> bool:
    """Test whether an error of torch's says that another process does not answer."""
    import torch.distributed

    if isinstance(error, torch.distributed.DistError):
        return True
    return type(error) is RuntimeError and _LOST.search(str(error)) is not None


def failing_together(command: Callable[P, T]) -> Callable[P, T]:
    """Decorate what several processes run: if one fails before it joins the others, they do not wait for it."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        # Where a process goes, torch logs every frame of the others' stacks; the error says what has happened.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        try:
            return command(*arguments, **options)
        except BaseException:
            with suppress(ToolError, ImportError):  # what it has failed of is to be said, and nothing else
                _report_early_failure(count_processes())
            raise

    return run


def _report_early_failure(processes: Processes) -> None:
    if processes.world == 1 or _joined:
        return
    from torch.distributed.distributed_c10d import PrefixStore

    Board(PrefixStore(_BOARD, _meet(processes, timedelta(seconds=10)))).fail(processes)


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
