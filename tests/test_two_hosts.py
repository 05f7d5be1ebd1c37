"""Trainings by torchrun on two hosts: network namespaces of this machine, joined by a cable of two ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Run
from test_several_processes import TRAININGS, assert_same_curve, folders_of, learned_alone, words

pytestmark = pytest.mark.slow
__all__ = ["words"]  # a fixture

PORT = "29517"

DIES = textwrap.dedent("""
    import os, runpy, signal, sys
    import torch
    from _toolio.compute import distributed

    distributed.BEAT_S, distributed.SILENCE_S = 0.5, 20.0
    step, checkpoint = torch.optim.AdamW.step, sys.argv[1]

    def step_or_die(*given, **more):
        if os.path.exists(checkpoint):
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*given, **more)

    torch.optim.AdamW.step = step_or_die
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
""")
"""A module: ``dies CHECKPOINT TOOL ARGUMENT...`` is the tool, whose host dies in the first step after a checkpoint.

Silence is taken for that sooner than usual.
"""


@dataclass(frozen=True)
class Host:
    """A network namespace with an address and one interface."""

    name: str
    address: str
    interface: str

    def start(self, folder: Path, *words: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        (folder / "dies.py").write_text(DIES)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.interface}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(os.fsdecode, words)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    if shutil.which("ip") is None:
        pytest.skip("there is no ip (iproute2) to make network namespaces with")
    own = f"et{os.getpid()}"
    made = [Host(f"{own}-{end}", f"10.213.77.{end}", f"{own}v{end}") for end in (1, 2)]
    try:
        try:
            for host in made:
                ip("netns", "add", host.name)
            ip("link", "add", made[0].interface, "type", "veth", "peer", "name", made[1].interface)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for host in made:
            ip("link", "set", host.interface, "netns", host.name)
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
            ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", host.name, "link", "set", host.interface, "up")
        yield made
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "delete", host.name], check=False, capture_output=True, timeout=60)


def launch(hosts: Sequence[Host], folders: Sequence[Path], *words: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """Start torchrun on each host, as a person would, with one process a host; the first host's leads."""
    started = []
    for number, (host, folder, each) in enumerate(zip(hosts, folders, words, strict=True)):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--node-rank", f"{number}", "--master-addr", hosts[0].address, "--master-port", PORT]
        started.append(host.start(folder, *torchrun, "-m", *each))
    return started


def end(started: Sequence[subprocess.Popen[bytes]]) -> list[Run]:
    ended = [(each, *each.communicate(timeout=1200)) for each in started]
    return [Run(each.returncode, out, err.decode()) for each, out, err in ended]


def said_by(run: Run, tool: str) -> list[str]:
    """Return what a tool itself has said, of all that torchrun says."""
    return [line for line in run.err.splitlines() if line.startswith((f"{tool}: ", "[rank", "Exception raised"))]


@pytest.mark.parametrize(("tool", "name"), TRAININGS)
def test_two_hosts_learn_what_one_process_learns(
    run: Callable[..., Run], hosts: list[Host], words: Callable[[str], list[str]], tmp_path: Path, tool: str, name: str
) -> None:
    arguments, folders, alone = learned_alone(run, words, tmp_path, tool, name)
    arguments = [tool, *arguments]
    first, second = end(launch(hosts, folders, arguments, arguments))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.out == b""
    assert_same_curve(first.records, alone.records)
    assert [path.name for path in (folders[0] / "made").iterdir()] == ["out"]
    assert [path.name for path in folders[1].iterdir()] == ["dies.py"]


@pytest.mark.parametrize(("tool", "name"), TRAININGS)
def test_a_host_that_dies_leaves_one_line_and_what_one_process_goes_on_from(
    run: Callable[..., Run], hosts: list[Host], words: Callable[[str], list[str]], tmp_path: Path, tool: str, name: str
) -> None:
    arguments, folders, alone = learned_alone(run, words, tmp_path, tool, name)
    arguments = [tool, *arguments]
    made = folders[0] / "made"
    first, second = end(
        launch(hosts, folders, ["dies", "never", *arguments], ["dies", str(made / "out.checkpoint"), *arguments])
    )
    assert second.code == -signal.SIGKILL
    assert first.code == 1
    gone = f"{tool}: error: another process, or its host, has gone; start all of them again with --resume"
    assert said_by(first, tool) == [gone]
    assert [path.name for path in made.iterdir()] == ["out.checkpoint"]
    resumed = run(*arguments, "--resume", cwd=folders[0])
    assert resumed.code == 0, resumed.err
    assert_same_curve(resumed.records, alone.records[-len(resumed.records) :])
    assert [path.name for path in made.iterdir()] == ["out"]


def test_a_host_that_lacks_an_input_ends_the_other(
    hosts: list[Host], words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    arguments = ["berttools", "finetune", *words("finetune"), "--out", "made/out"]
    wrong = ["nowhere" if word == str(tmp_path / "base") else word for word in arguments]
    first, second = end(launch(hosts, folders_of(tmp_path), arguments, wrong))
    assert (first.code, second.code) == (1, 1)
    assert said_by(second, "berttools") == [
        "berttools: error: nowhere: no such folder; name a local model's folder, nothing is downloaded"
    ]
    assert said_by(first, "berttools") == ["berttools: error: process 1 has failed; see what it said"]
    assert list((tmp_path / "first" / "made").iterdir()) == []
