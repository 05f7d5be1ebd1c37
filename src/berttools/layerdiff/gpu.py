"""Sum windows of pairs on a GPU: while one is summed, the next is read into pinned memory and copied."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from _toolio.errors import InputError
from berttools.layerdiff.distances import Pair, sum_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from _toolio.tensors.reader import FlatTensor

Job = tuple[Pair, int, int]
_BUFFERS = 2


class Stream:
    """Sums over windows in order, with the methods of `berttools.layerdiff.forked_jobs.Crew`.

    Parameters
    ----------
    jobs
        Pairs and the windows of them.
    device
        Where to sum: a GPU, or a CPU where Triton interprets.
    """

    def __init__(self, jobs: Sequence[Job], device: torch.device) -> None:
        self._jobs, self._device = jobs, device
        size = max((8 * (stop - start) for _, start, stop in jobs), default=0)
        pinned = device.type == "cuda"
        self._buffers = [
            [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)] for _ in range(_BUFFERS)
        ]
        self._copied: list[Any] = [None] * _BUFFERS
        self._found: dict[int, Sequence[float] | InputError] = {}
        self._running = self._run()

    def result(self, number: int) -> Sequence[float]:
        """Return the sums of a job, once.

        Raises
        ------
        InputError
            Its tensors cannot be read.
        """
        while number not in self._found:
            done, sums = next(self._running)
            self._found[done] = sums
        found = self._found.pop(number)
        if isinstance(found, InputError):
            raise found
        return found

    def close(self) -> None:
        """Release the buffers."""
        self._running.close()
        self._buffers = []

    def _run(self) -> Generator[tuple[int, Sequence[float] | InputError], None, None]:
        waiting: tuple[int, torch.Tensor] | None = None
        for number, job in enumerate(self._jobs):
            try:
                sums = self._start(number % _BUFFERS, *job)
            except InputError as error:
                yield number, error
                continue
            if waiting is not None:
                yield waiting[0], waiting[1].tolist()
            waiting = number, sums
        if waiting is not None:
            yield waiting[0], waiting[1].tolist()

    def _start(self, slot: int, pair: Pair, start: int, stop: int) -> torch.Tensor:
        """Read a window and start its copy and its sums; the result is computed asynchronously."""
        from berttools.kernels.distances import block_sums

        sides = [_stored(flat, start, stop) for flat in (pair.base, pair.ft)]
        if any(dtype is None for _, dtype in sides):
            return torch.tensor(sum_window(pair, start, stop), dtype=torch.float64)
        if self._copied[slot] is not None:
            self._copied[slot].synchronize()  # the buffer's last contents have left it
        there = []
        for buffer, (values, dtype) in zip(self._buffers[slot], sides, strict=True):
            held = buffer[: values.nbytes]
            held.numpy()[:] = values.view(np.uint8)
            assert dtype is not None
            there.append(held.to(self._device, non_blocking=True).view(dtype))
        pair.base.release(start, stop)
        pair.ft.release(start, stop)
        if self._device.type == "cuda":
            self._copied[slot] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied[slot].record()
        return block_sums(*there)


_FLOATS = {
    np.dtype(np.float64): torch.float64, np.dtype(np.float32): torch.float32, np.dtype(np.float16): torch.float16,
}  # fmt: skip


def _stored(flat: FlatTensor, start: int, stop: int) -> tuple[NDArray[Any], torch.dtype | None]:
    """Return values as they are copied and the dtype they have then; None for what the CPU sums."""
    raw = getattr(flat, "bfloat16_bits", None)
    bits = raw(start, stop) if raw is not None else None
    if bits is not None:
        return np.ascontiguousarray(bits), torch.bfloat16
    values = np.ascontiguousarray(flat.values(start, stop))
    return values, _FLOATS.get(values.dtype)
