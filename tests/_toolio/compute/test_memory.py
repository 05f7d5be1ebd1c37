"""Batches that shrink where memory runs out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from _toolio.compute.memory import Batch, _malloc_trim, give_back_unused, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("a bug"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, is_it: bool) -> None:
    assert is_out_of_memory(error) is is_it


def test_what_torch_says_that_cannot_have_so_much() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_batch_is_halved_until_it_fits_and_stays_so() -> None:
    tried: list[int] = []

    def sums(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in part]

    batch = Batch(16)
    found = batch.map(sums, list(range(20)))
    assert [number for part in found for number in part] == list(range(0, 40, 2))
    assert tried[:3] == [16, 8, 4]
    assert batch.size == 2
    assert set(tried[3:]) == {2}


def test_one_item_that_does_not_fit_and_a_bug_are_raised() -> None:
    def fail(part: Sequence[int]) -> None:
        raise MemoryError if part[0] else ZeroDivisionError

    batch = Batch(8)
    with pytest.raises(MemoryError):
        batch.map(fail, [1, 2, 3])
    assert batch.size == 1
    with pytest.raises(ZeroDivisionError):
        Batch(8).map(fail, [0, 1])


HEAP = """
import sys
from _toolio.compute import memory

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

blocks = [bytes(64_000) for _ in range(2_000)]  # below the size of those that the system gives each by itself
kept, blocks = blocks[::20], None
before = resident_mb()
memory.give_back_unused()
print(before - resident_mb(), len(kept))
"""


@pytest.mark.skipif(_malloc_trim() is None or not sys.platform.startswith("linux"), reason="there is no glibc here")
def test_gaps_between_blocks_of_the_heap_are_given_back() -> None:
    """Of 128 MB every twentieth block is kept: the C library by itself keeps all of it."""
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[0]) > 80


def test_where_the_c_library_gives_nothing_back_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    _malloc_trim.cache_clear()
    give_back_unused()
    assert _malloc_trim() is None
    _malloc_trim.cache_clear()
