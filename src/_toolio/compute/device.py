"""Devices: the one to compute on, its memory, and how work is divided on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, param

if TYPE_CHECKING:
    import torch


def pick_device(spec: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that is there.

    Raises
    ------
    ToolError
        A GPU that was named is not there.
    """
    import torch

    if spec == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = spec.partition(":")
    # The index is read from the text: torch keeps it in one byte and takes cuda:256 for cuda:0.
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = f"{param('device')} {spec}: {torch.cuda.device_count()} GPUs found"
        raise ToolError(f"{found}; use {param('device')} auto")
    return torch.device(spec)


@contextmanager
def enough_memory(device: torch.device, less: str) -> Iterator[None]:
    """Raise running out of memory inside the block as one line.

    Parameters
    ----------
    device
        What the block computes on.
    less
        What takes less memory: the message advises it.

    Raises
    ------
    ToolError
        Kind ``"memory"``.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        # torch.OutOfMemoryError; messages of the CPU's allocator, on Linux and elsewhere; of cuBLAS.
        known = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
        if not isinstance(error, MemoryError) and not any(words in text for words in known):
            raise
        raise ToolError(f"{device}: out of memory; try {less}", kind="memory") from None


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators of the CPU and of a GPU inside the block, and put them back at its end."""
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def share_out(device: torch.device, batch: int) -> tuple[int, int]:
    """Return how many threads work on items, and how many items each takes at a time.

    On a CPU as many items as there are cores are worked on at once, each by one thread: that is faster than many
    threads on one item, and no result depends on how many there are. On an accelerator one thread takes ``batch``.
    """
    import torch

    if device.type != "cpu":
        return 1, batch
    workers = torch.get_num_threads()
    torch.set_num_threads(1)
    return workers, 1


def device_of(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Launch kernels on a tensor's device: left alone, they go to the current one."""
    import torch

    device: AbstractContextManager[object] = torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]
    return device
