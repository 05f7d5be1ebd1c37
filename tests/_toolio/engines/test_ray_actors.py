"""Actors, as far as they need no cluster; ``tests/test_ray.py`` has one."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from _toolio.compute.memory import Batch
from _toolio.engines import ray_actors
from _toolio.engines.ray_actors import Head, Station
from _toolio.errors import ToolError
from _toolio.version import tool_version


class Negatives:
    device, threads, per_call = None, 0, 1

    def __init__(self, device: str) -> None:
        if device == "none":
            raise ToolError("no such device", kind="device")
        self.at_once = Batch(4)

    def __call__(self, items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if item == 3:
                raise ToolError("three ends the run", kind="three")
            self.at_once.size = 2
            yield -item


@pytest.fixture
def here() -> Iterator[Path]:
    before = Path.cwd()
    yield before
    os.chdir(before)


def test_a_station_works_where_the_run_was_started(here: Path, tmp_path: Path) -> None:
    station = Station()
    assert station.open(Negatives, "cpu", str(tmp_path), tool_version()) is None
    assert Path.cwd() == tmp_path
    assert pickle.loads(station.work([1, 2])) == ([-1, -2], 2)
    found, halved_to = pickle.loads(station.work([1, 3]))
    assert isinstance(found, ToolError)
    assert (found.message, found.kind, halved_to) == ("three ends the run", "three", 2)


def test_what_is_wrong_with_a_node(here: Path, tmp_path: Path) -> None:
    station, node = Station(), socket.gethostname()
    other = station.open(Negatives, "cpu", str(tmp_path), "0.0.0")
    assert other is not None
    assert other.message == f"{node}: has epsilon-tools {tool_version()}, not 0.0.0; install the same"
    gone = station.open(Negatives, "cpu", str(tmp_path / "gone"), tool_version())
    assert gone is not None
    assert (gone.kind, Path.cwd()) == ("node", here)
    assert gone.message.endswith("gone: No such file or directory; all nodes must see the same paths")
    refused = station.open(Negatives, "none", str(tmp_path), tool_version())
    assert refused is not None
    assert refused.kind == "device"


def test_a_head_that_does_not_answer_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(ray_actors.time, "monotonic", lambda: clock[-1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        head = Head(address)
        for now in (0.5, 20, 60, 70):
            clock.append(now)
            head.check()
    for now in (71.5, 80):
        clock.append(now)
        head.check()
    clock.append(86)
    with pytest.raises(ToolError, match=rf"^engine ray: the cluster at {address} has gone; run again"):
        head.check()
