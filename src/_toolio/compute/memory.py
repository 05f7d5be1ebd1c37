"""Running out of memory: told from other errors, and batches that shrink where it happens; memory to give back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SAID = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Of torch.OutOfMemoryError; of the CPU's allocator, on Linux and elsewhere; of cuBLAS."""


def is_out_of_memory(error: BaseException) -> bool:
    """Test whether an error says that memory has run out, of Python's or of torch's on any device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    )


class Batch:
    """How many items are worked on together; halved, to 1 at the least, where memory runs out.

    Parameters
    ----------
    size
        Items, at first.

    Attributes
    ----------
    size
        Items, now. It never grows: what was too large once would be so again.
    """

    def __init__(self, size: int) -> None:
        self._first = self.size = size

    @property
    def halved_to(self) -> int | None:
        """Items now, where memory has run out; None where it never has."""
        return self.size if self.size < self._first else None

    @classmethod
    def of(cls, batch: int | Batch) -> Batch:
        """Return a batch of a size, or one that others shrink too."""
        return cls(batch) if isinstance(batch, int) else batch

    def map(self, function: Callable[[Sequence[T]], R], items: Sequence[T]) -> list[R]:
        """Apply a function to consecutive parts of items; return its results in order.

        Raises
        ------
        MemoryError, RuntimeError
            One item alone is too large.
        """
        results, start = list[R](), 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                results.append(function(part))
                start += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            # Out of the except block: its traceback would hold the tensors that are in the way.
            self.size = len(part) // 2
            _release()
        return results


def give_back_unused() -> None:
    """Return the free pages of the heap to the system: changes no result, and does nothing without glibc.

    Its arenas keep what was freed between blocks that are still used. Photos of all sizes leave more such gaps than
    later ones fill: without this the memory of a run grows faster with its length.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    import ctypes

    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # another C library
        return None
    return trim


def _release() -> None:
    """Return what torch keeps of a GPU's memory for later, in blocks that may fit nothing."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
