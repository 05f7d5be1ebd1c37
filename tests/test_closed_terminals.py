"""A terminal that is closed ends a run in order: real processes, and a real terminal of theirs."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(warm_command: Callable[..., list[str]], plain_photos: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a command that has written one photo, and waits for the next path on its stdin."""
    with ExitStack() as ends:

        def begin(ready: Path, **options: Any) -> subprocess.Popen[bytes]:
            words = ["perturb", "--attack", "none", "--copy-faceless", "--in", "-", "--out", tmp_path / "out"]
            process = subprocess.Popen(warm_command("facetools", *words), stdin=subprocess.PIPE, **options)
            ends.callback(process.communicate)
            ends.callback(process.kill)
            assert process.stdin
            process.stdin.write(os.fsencode(plain_photos / "0.png") + b"\n")
            process.stdin.flush()
            end = time.monotonic() + 120
            while not (ready.exists() and ready.stat().st_size) and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.5)  # until it waits for the next photo
            return process

        yield begin


def hangup(handler: signal.Handlers) -> Callable[[], object]:
    """Return what a new process does about hang-ups to begin with, whatever these tests were started by."""
    return lambda: signal.signal(signal.SIGHUP, handler)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix in (".tmp", ".lock", ".png"))


def test_a_hangup_ends_the_run_with_one_line(start: Start, plain_photos: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as records, (tmp_path / "err").open("wb") as err:
        process = start(said, stdout=records, stderr=err, preexec_fn=hangup(signal.SIG_DFL))
        for _ in range(2):  # the shell passes on what the kernel says, too
            process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert (tmp_path / "err").read_text() == "facetools: stopped after 1; go on with --resume\n"
    assert left_in(tmp_path / "out") == ["0.png"]


def test_a_terminal_that_is_closed(start: Start, plain_photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def take_it() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    written = tmp_path / "out" / str(plain_photos / "0.png").lstrip("/")
    process = start(written, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_it)
    os.close(theirs)
    os.close(ours)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert left_in(tmp_path / "out") == ["0.png"]


def test_nohup_is_obeyed(start: Start, plain_photos: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as records:
        process = start(said, stdout=records, stderr=subprocess.PIPE, preexec_fn=hangup(signal.SIG_IGN))
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(os.fsencode(plain_photos / "1.png"))
    assert (process.returncode, err) == (0, b"")
    assert left_in(tmp_path / "out") == ["0.png", "1.png"]
