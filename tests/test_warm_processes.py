"""Processes of ``warm_server.py`` are like others: arguments, environment, folder, streams, signals, exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOL = """
import json, os, select, sys, time
assert __name__ == "__main__"
match sys.argv[1:]:
    case ["show", *words]:
        print("to stderr", file=sys.stderr)
        print(json.dumps({
            "words": words, "given": sys.stdin.read(), "X": os.environ.get("X"), "HOME": os.environ.get("HOME"),
            "folder": os.getcwd(), "parent": os.getppid(), "loaded": "torch" in sys.modules, "tty": sys.stdout.isatty(),
            "encoding": sys.stdout.encoding, "path": sys.path[0],
        }))
    case ["exit", code]:
        print("some", end="")
        sys.exit(int(code) if code.isdigit() else code)
    case ["raise"]:
        raise ValueError("no reason")
    case ["die"]:
        os.kill(os.getpid(), 9)
    case ["wait"]:
        try:
            print("waiting", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(5)
    case ["end"]:
        import atexit, threading
        atexit.register(print, "last")
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
"""
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some_tool.py").write_text(TOOL)
    return tmp_path


@pytest.fixture(params=["new", "warm"])
def words(request: pytest.FixtureRequest, warm_command: Callable[..., list[str]]) -> list[str]:
    """The start of a command: what holds for a new interpreter holds for one that was forked."""
    return [sys.executable, "-m", "some_tool"] if request.param == "new" else warm_command("some_tool")


@pytest.fixture
def call(words: list[str], folder: Path) -> Call:
    def call(*more: str, **options: object) -> subprocess.CompletedProcess[str]:
        settings = {"cwd": folder, "capture_output": True, "text": True, "timeout": 600, "check": False, **options}
        return subprocess.run([*words, *more], **settings)  # type: ignore[call-overload, no-any-return]

    return call


def test_arguments_environment_folder_and_streams(call: Call, words: list[str], folder: Path) -> None:
    odd = "a b\n\udcff"
    done = call("show", odd, "", input="in", env={"X": odd, "PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "to stderr\n")
    shown = json.loads(done.stdout)
    assert (shown["words"], shown["X"], shown["HOME"], shown["given"]) == ([odd, ""], odd, None, "in")
    assert (shown["folder"], shown["path"], shown["tty"]) == (str(folder), str(folder), False)
    assert shown["encoding"] == "utf-8"
    assert shown["loaded"] == ("-m" not in words)


def test_how_it_ends(call: Call) -> None:
    for code, status, said in (("0", 0, ""), ("3", 3, ""), ("no way", 1, "no way\n")):
        done = call("exit", code)
        assert (done.returncode, done.stdout, done.stderr) == (status, "some", said)
    failed = call("raise")
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: no reason\n")
    assert call("die").returncode == -signal.SIGKILL
    assert call("end").stdout == "thread\nlast\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals(words: list[str], folder: Path, number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [*words, "wait"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(number)
        assert process.stdout.read() == b""
        assert process.wait(60) == code
