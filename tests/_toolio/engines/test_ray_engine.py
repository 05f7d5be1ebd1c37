"""The engine on a Ray cluster, as far as it needs none; ``tests/test_ray.py`` has one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from _toolio.engines import ray_engine
from _toolio.engines.ray_engine import RayEngine
from _toolio.errors import UsageError
from conftest import Run

DETECT = ("facetools", "detect", "--engine", "ray", "--in")


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        ("cuda:1", None, "device cuda:1: an actor sees its own GPUs alone; give device cuda"),
        ("cpu", 0.5, "device cpu and gpus_per_actor 0.5: give one"),
        ("cuda", 0, "device cuda and gpus_per_actor 0: give one"),
    ],
)
def test_devices_that_do_not_go_together(device: str, gpus: float | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        RayEngine(device, gpus_per_actor=gpus)
    assert caught.value.message == said


def test_without_ray_one_line_says_what_to_install(
    run_inside: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, plain_photos: Path
) -> None:
    monkeypatch.setattr("_toolio.engines.ray_engine.find_spec", lambda _: None)
    done = run_inside(*DETECT, plain_photos)
    assert (done.code, done.out) == (1, b"")
    assert done.err == "facetools: error: --engine ray: Ray is not installed; pip install 'epsilon-tools[ray]'\n"


def test_an_option_of_the_other_engine(run_inside: Callable[..., Run], plain_photos: Path) -> None:
    for option, value in (("--actors", "2"), ("--gpus-per-actor", "0.5")):
        done = run_inside("facetools", "detect", "--in", plain_photos, option, value)
        assert (done.code, done.err) == (2, f"facetools: error: {option} is of --engine ray; give both\n")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{closed}", ": nobody answers there (Connection refused); is the cluster up?"),
        ("127.0.0.1:port", ": nobody answers there ("),
        ("ray://127.0.0.1:10001", ": is no HOST:PORT; run this on a node of the cluster, and give the address that"),
        ("nonsense", ": no cluster to join: Invalid address format: nonsense"),
    ],
)
def test_no_cluster_at_an_address(run: Any, plain_photos: Path, address: str, said: str) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    address = address.format(closed=closed)
    done = run(*DETECT, plain_photos, env={**os.environ, "RAY_ADDRESS": address})
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"facetools: error: RAY_ADDRESS {address}{said}")
    assert done.err.count("\n") == 1


def test_ray_is_imported_by_its_engine_alone() -> None:
    commands = [*(f"facetools.commands.{name}" for name in ("detect", "embed", "align", "perturb"))]
    commands += ["berttools.commands.predict", "berttools.commands.layerdiff", "_toolio.engines.ray_engine"]
    code = f"import sys, {', '.join(commands)}; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cluster_of_this_run_has_a_token_that_a_process_keeps() -> None:
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    others = {name: value for name, value in os.environ.items() if name not in names}
    with mock.patch.dict(os.environ, others, clear=True):
        first = ray_engine._token_of_its_own()
        assert first["RAY_AUTH_MODE"] == os.environ["RAY_AUTH_MODE"] == "token"
        assert len(first["RAY_AUTH_TOKEN"]) == 64
    with mock.patch.dict(os.environ, others, clear=True):
        assert ray_engine._token_of_its_own() == first
    for name in names:  # whoever has set one has decided
        with mock.patch.dict(os.environ, others | {name: "disabled"}, clear=True):
            assert ray_engine._token_of_its_own() == {}
