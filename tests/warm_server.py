"""Start processes whose interpreter has imported the large libraries: import them once, and fork for each.

A process that imports torch and transformers anew spends most of its time on that. What is forked here is
a process like any other, with arguments, environment, folder, streams and signals of its own, which imports
the tools' own modules itself and ends as an interpreter ends. It shows nothing of what imports print, and
all processes of a server have the seed of one for hashing: tests of such things start a new interpreter.

Run as a script, with the path of a socket; ``warm_client.py`` is what connects. It ends with its stdin.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import logging
import marshal
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = (
    "numpy",
    "PIL.Image",
    "safetensors.numpy",
    "safetensors.torch",
    "typer.main",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)


def exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        block = connection.recv(size - len(got))
        if not block:
            raise EOFError
        got += block
    return got


def serve(path: str) -> dict[str, Any]:
    """Fork for each that connects; return in the forked process, with what it has been asked to run."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno())
    running: dict[int, socket.socket] = {}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([listener, woken, 0], [], [])
        if woken in ready:
            woken.recv(4096)
            report(running)
        if listener in ready:
            connection, _ = listener.accept()
            head, streams, _, _ = socket.recv_fds(connection, 4, 3)
            asked: dict[str, Any] = marshal.loads(exactly(connection, *struct.unpack("I", head)))
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (listener, woken, wake, connection, *running.values()):
                    each.close()
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                return asked
            for stream in streams:
                os.close(stream)
            connection.sendall(struct.pack("i", pid))
            running[pid] = connection
        elif 0 in ready:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit()


def report(running: dict[int, socket.socket]) -> None:
    """Tell those who wait for processes that have ended how they did."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        # Who waited may have been killed.
        with running.pop(pid) as connection, suppress(OSError):
            connection.sendall(struct.pack("i", os.waitstatus_to_exitcode(status)))


def become(asked: dict[str, Any]) -> None:
    """Take the place of a new interpreter."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else handler)
    os.chdir(asked["folder"])
    os.environb.clear()
    os.environb.update(asked["environment"])
    sys.stdin = sys.__stdin__ = opened(0, sys.stdin)
    sys.stdout = sys.__stdout__ = opened(1, sys.stdout)
    sys.stderr = sys.__stderr__ = opened(2, sys.stderr)
    sys.path[0] = str(Path.cwd())
    sys.argv = [asked["tool"], *map(os.fsdecode, asked["arguments"])]


def opened(number: int, old: Any) -> io.TextIOWrapper:
    """Open one of the standard streams as the interpreter opened the one that it replaces."""
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    buffer: Any = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    lines = number == 2 or os.isatty(number)
    stream = io.TextIOWrapper(buffer, old.encoding, old.errors, newline="\n", line_buffering=lines)
    stream.mode = "w" if number else "r"  # type: ignore[misc]
    return stream


def run(tool: str) -> None:
    """Run a tool to the end of the process.

    The interpreter's own end is done by hand: it would visit, and so copy, all that was imported.
    """
    code: Any = 0
    try:
        runpy.run_module(tool, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # as _toolio.lazy.quiet_torch does
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    work = serve(sys.argv[1])
    become(work)
    run(work["tool"])
