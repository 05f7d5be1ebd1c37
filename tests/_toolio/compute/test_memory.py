"""Batches that shrink where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from _toolio.compute.memory import Batch, is_out_of_memory


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
