"""Engines run workers on items and yield results in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch

from _toolio.compute.memory import Batch
from _toolio.engines.engine import LocalEngine, in_groups


class Squares:
    """Square numbers; keeps how it was called."""

    def __init__(self, device: str, *, threads: int = 0, per_call: int = 2) -> None:
        self.device, self.threads, self.per_call = torch.device(device), threads, per_call
        self.at_once = Batch(4)
        self.calls: list[tuple[int, ...]] = []
        self.seen: set[tuple[str, int]] = set()

    def __call__(self, items: Sequence[int]) -> Iterator[int]:
        self.calls.append(tuple(items))
        self.seen.add((threading.current_thread().name, torch.get_num_threads()))
        yield from (item * item for item in items)


def test_a_worker_that_computes_on_all_threads_is_called_here_as_results_are_drawn() -> None:
    worker, drawn = Squares("cpu"), []

    def items() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    results = LocalEngine("cpu").map(Squares, items(), worker)
    assert next(results) == 0
    assert drawn == [0, 1]
    assert list(results) == [1, 4, 9, 16]
    assert worker.calls == [(0, 1), (2, 3), (4,)]
    assert {name for name, _ in worker.seen} == {threading.current_thread().name}


def test_side_by_side_each_worker_computes_on_one_thread() -> None:
    before, worker = torch.get_num_threads(), Squares("cpu", threads=3, per_call=1)
    assert list(LocalEngine("cpu").map(Squares, range(50), worker)) == [number * number for number in range(50)]
    assert {threads for _, threads in worker.seen} == {1}
    assert threading.current_thread().name not in {name for name, _ in worker.seen}
    assert torch.get_num_threads() == before


def test_a_worker_is_opened_where_none_is() -> None:
    engine = LocalEngine("cpu")
    assert engine.halved_to is None
    assert list(engine.map(Squares, [3])) == [9]
    assert engine.halved_to is None


def test_how_far_batches_were_halved() -> None:
    worker, engine = Squares("cpu"), LocalEngine("cpu")
    list(engine.map(Squares, [3], worker))
    worker.at_once.size = 2
    assert engine.halved_to == 2


@pytest.mark.parametrize(("size", "groups"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2]]), (5, [[0, 1, 2]])])
def test_groups(size: int, groups: list[list[int]]) -> None:
    assert list(in_groups(range(3), size)) == groups
    assert list(in_groups([], size)) == []
