"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from _toolio.errors import UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Where a process stands among others.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that measures, writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Give this process's part of a step's items."""
        return items[self.rank :: self.world]

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """Let gradients be averaged over the processes."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, broadcast_buffers=False)

    def agree(self, value: Any) -> Any:
        """Give every process what the leading one has."""
        if self.world == 1:
            return value
        import torch.distributed

        told = [value]
        torch.distributed.broadcast_object_list(told, src=0)
        return told[0]

    def total(self, value: float) -> float:
        """Give the sum of all processes' values."""
        if self.world == 1:
            return value
        import torch.distributed

        told: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(told, value)
        return float(sum(told))


def count_processes(environ: Callable[[str], str | None] = os.environ.get) -> Processes:
    """Read from RANK and WORLD_SIZE which process this is.

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
    """Meet the other processes; ``torchrun`` has said where. With one process there is nothing to do."""
    if processes.world == 1:
        yield
        return
    import torch.distributed

    if device.type == "cuda":
        torch.cuda.set_device(device)  # what is told to all goes through the current device
    # One of them may work for hours while the others wait.
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def device_of(processes: Processes, spec: str) -> str:
    """Give each process a GPU of its own where ``--device`` leaves that open; UsageError where it names one for all."""
    if processes.world > 1 and spec.startswith("cuda:"):
        raise UsageError(f"--device {spec}: {processes.world} processes would share it; give --device cuda")
    if processes.world == 1 or spec not in ("auto", "cuda"):
        return spec
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else spec


def hush(processes: Processes) -> None:
    """Send what all processes but the leading one would print as records to nowhere."""
    if not processes.leads:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays stdout to the end
