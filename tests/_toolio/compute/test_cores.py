from __future__ import annotations

import os

import pytest

from _toolio.compute.cores import usable_cores


def test_as_many_as_this_process_may_use_and_four_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= usable_cores() <= min(4, os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)), raising=False)
    assert (usable_cores(), usable_cores(at_most=2)) == (3, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert usable_cores() == 4


def test_where_the_system_tells_only_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((None, 1), (2, 2), (16, 4)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == expected
