"""Devices: the one to compute on, its memory, and how work is divided on it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from _toolio.compute.memory import is_out_of_memory
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
        if not is_out_of_memory(error):
            raise
        raise ToolError(f"{device}: out of memory; try {less}", kind="memory") from None


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute on a GPU with the algorithms of torch that give the same bits in every run, where there are such.

    For commands: what is set is the whole process's, and is put back at the end. Enter it before anything is computed
    on the GPU, as cuBLAS reads its part of the environment once. On a CPU nothing has to be set.
    """
    if device.type != "cuda":
        yield
        return
    import torch

    was = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    # What is made empty is filled by whoever made it: filling it first would only take time.
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")  # where torch has no other algorithm
        torch.use_deterministic_algorithms(True, warn_only=True)  # sums by atomics differ from run to run
        settings.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was[0], warn_only=was[1])
            settings.fill_uninitialized_memory = filled


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
    The work on a CPU is to be done inside ``one_thread``, or each of the workers would start as many threads again.
    """
    import torch

    return (torch.get_num_threads(), 1) if device.type == "cpu" else (1, batch)


@contextmanager
def one_thread(device: torch.device | None = None) -> Iterator[None]:
    """Compute on one thread of the CPU inside the block, where the device is one; None for the CPU.

    One thread gives the same bits on every machine. And more would wait for each other: where something else is on the
    cores, small products take ten times as long.
    """
    import torch

    before = torch.get_num_threads()
    if device is None or device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def device_of(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Launch kernels on a tensor's device: left alone, they go to the current one."""
    import torch

    device: AbstractContextManager[object] = torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]
    return device
