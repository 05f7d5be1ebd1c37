"""Which shard a worker takes next while others hold some."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.files.claims import BusyError, claim_file
from _toolio.sharding import taking
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.taking import take_each


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardFolder:
    monkeypatch.setattr(taking, "_PAUSE_S", 0.0)
    return ShardFolder(tmp_path, 5)


def test_what_nobody_holds_is_taken_in_order(folder: ShardFolder) -> None:
    taken: list[int] = []
    assert take_each(folder, range(1, 6), taken.append, on_waiting=pytest.fail) == []
    assert taken == [1, 2, 3, 4, 5]


def test_what_a_killed_worker_held_is_taken_last(folder: ShardFolder) -> None:
    claim_file(folder.records(2)).touch()
    taken: list[int] = []
    assert take_each(folder, range(1, 6), taken.append, on_waiting=pytest.fail) == []
    assert taken == [1, 3, 4, 5, 2]


def test_what_others_are_making_is_waited_for(folder: ShardFolder) -> None:
    taken, tried, waited = list[int](), list[int](), list[list[int]]()

    def make(number: int) -> None:
        tried.append(number)
        if number in (2, 4) and tried.count(number) < 4:
            raise BusyError("held", sure=True)
        taken.append(number)

    assert take_each(folder, range(1, 6), make, on_waiting=waited.append) == []
    assert taken == [1, 3, 5, 2, 4]
    assert waited == [[2, 4]]


def test_what_another_machine_may_hold_is_not_waited_for(folder: ShardFolder) -> None:
    taken: list[int] = []

    def make(number: int) -> None:
        if number == 3:
            raise BusyError("held", sure=False)
        taken.append(number)

    assert take_each(folder, range(1, 6), make, on_waiting=pytest.fail) == [3]
    assert taken == [1, 2, 4, 5]


def test_other_errors_end_the_worker(folder: ShardFolder) -> None:
    def make(number: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_each(folder, range(1, 6), make, on_waiting=pytest.fail)
