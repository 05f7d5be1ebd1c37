"""Run a tool as several processes that train together, each in a folder of its own, as on a host of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from conftest import Run

CUT_SHORT = textwrap.dedent("""
    import os, runpy, signal, sys
    from _toolio.compute import checkpoints

    save, left = checkpoints.save_training, int(sys.argv[1])

    def save_and_die(*given):
        global left
        save(*given)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_training = save_and_die
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
""")
"""A module: ``cut_short N TOOL ARGUMENT...`` is the tool until its checkpoint has been written N times."""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_together(
    start: Callable[..., list[str]],
    folders: Sequence[Path],
    tool: str,
    *arguments: str | os.PathLike[str],
    stdin: bytes = b"",
    saves: int = 0,
) -> list[Run]:
    """Run a tool in a process a folder, the first of which leads; it is killed once it has saved so often."""
    shared = {**os.environ, "WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    shared["OMP_NUM_THREADS"] = "1"
    started = []
    for rank, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        (folder / "cut_short.py").write_text(CUT_SHORT)
        words = start("cut_short", str(saves), tool, *arguments) if saves else start(tool, *arguments)
        started.append(
            subprocess.Popen(
                words, cwd=folder, env={**shared, "RANK": str(rank)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    ended = [(each, *each.communicate(stdin if not rank else b"", timeout=1200)) for rank, each in enumerate(started)]
    return [Run(each.returncode, out, err.decode()) for each, out, err in ended]
