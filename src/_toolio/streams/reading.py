"""Open and read inputs within limits: nothing is waited for in silence, no file or line fills the memory.

The limits are far above what honest inputs need; docs/conventions.md names them.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from _toolio.errors import InputError, ToolError

MAX_FILE = 4 << 30
"""Bytes of a file that is read whole. No TIFF or BMP is larger; 400 megapixels of 16-bit RGB take 2.4 GB."""

MAX_LINE = 16 << 20
"""Bytes of a line of records, texts or paths. A line's objects in memory take ten times as many."""

MAX_SKIPPED = 1 << 30
"""Bytes of a line that are passed over to find its end. What has no newline for longer is no text."""

_BLOCK = 1 << 20
_DESCRIPTORS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Names of what this process was started with, such as a shell's ``<(...)``: somebody writes into such a pipe."""
_PATIENCE = 3.0
"""Seconds after which it is said that a named pipe is waited for."""

_say_waiting: Callable[[str], object] = warnings.warn


def report_waiting(say: Callable[[str], object]) -> None:
    """Set what is called with a line, from another thread, where a named pipe is waited for; else it is a warning."""
    global _say_waiting
    _say_waiting = say


def open_input(path: str | Path, *, pipes: bool = True) -> IO[bytes]:
    """Open a file to read it.

    Parameters
    ----------
    path
        The file.
    pipes
        Whether to open a named pipe, which waits for a program that writes into it: right for what a user named, not
        for what a folder or a list held, nor where one has to seek.

    Raises
    ------
    InputError
        It is a device, a socket or, without ``pipes``, a named pipe, whose opening or reading might never end.
        ``/dev/null`` is empty, and a pipe that this process was started with (``/dev/stdin``, ``<(...)``) is read.
    OSError
        As ``open`` raises it.
    """
    name = os.fspath(path)
    status = Path(path).stat()
    if pipes and stat.S_ISFIFO(status.st_mode):
        with _saying_that_it_waits(name):
            return Path(path).open("rb")
    if kind := _endless(name, status):
        raise InputError(f"{name}: {kind}, and no file; pipe it into stdin, or copy it to a file", kind="no-file")
    return Path(path).open("rb")


def is_descriptor(name: str) -> bool:
    """Test whether a path leads to what this process was started with: ``/dev/stdin``, ``<(...)``."""
    return name.startswith(_DESCRIPTORS)


@contextmanager
def _saying_that_it_waits(name: str) -> Iterator[None]:
    """Report, once, a named pipe whose opening takes longer than a moment: nobody writes into it yet."""
    from threading import Timer

    timer = Timer(_PATIENCE, _say_waiting, (f"{name}: a named pipe; waiting for a program that writes into it",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # A thread that still writes its line while the interpreter ends holds stderr's lock, which is fatal.
        timer.join()


def _endless(name: str, status: os.stat_result) -> str:
    """Return what a path leads to if it is no file; empty for a file, a folder and the pipes that can be read."""
    mode = status.st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return "" if is_descriptor(name) else "a named pipe" if stat.S_ISFIFO(mode) else "a socket"
    is_null = stat.S_ISCHR(mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - a name of the system
    return "" if is_null else "a device"


def read_file(path: str | Path, *, pipes: bool = True) -> bytes:
    """Read a whole file; ``pipes`` as of ``open_input``.

    Raises
    ------
    InputError
        As of ``open_input`` and ``read_stream``.
    OSError
        It cannot be opened or read.
    """
    with open_input(path, pipes=pipes) as stream:
        return read_stream(stream, os.fspath(path))


def read_stream(stream: IO[bytes], name: str) -> bytes:
    """Read a stream to its end; ``name`` is for messages.

    Raises
    ------
    InputError
        Kind ``too-large``: it has more than ``MAX_FILE`` bytes; ``no-memory``: it does not fit into memory.
    """
    try:
        size = os.fstat(stream.fileno()).st_size
    except OSError:  # a stream without a file
        size = 0
    check_size(size, name)
    try:
        if size:
            return stream.read()
        # Of a pipe nobody knows how much will come.
        read = io.BytesIO()
        while block := stream.read(_BLOCK):
            read.write(block)
            check_size(read.tell(), name)
        return read.getvalue()
    except MemoryError:
        raise InputError(f"{name}: too little memory for a file of this size", kind="no-memory") from None


def check_size(size: int, name: str) -> None:
    """Refuse a file that is read whole and has more than ``MAX_FILE`` bytes: an `InputError`."""
    if size > MAX_FILE:
        raise InputError(f"{name}: larger than {MAX_FILE >> 30} GiB; is it damaged? divide it", kind="too-large")


def lines_of(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield the lines of a stream with their ends; ``name`` is for messages.

    Of a line that ``is_cut``, longer than ``MAX_LINE``, only the beginning is yielded.

    Raises
    ------
    ToolError
        A line goes on for more than ``MAX_SKIPPED``.
    """
    while line := stream.readline(MAX_LINE + 1):
        if is_cut(line):
            _skip_line(stream, name)
        yield line


def is_cut(line: bytes) -> bool:
    """Test whether ``lines_of`` has left out the rest of a line."""
    return len(line) > MAX_LINE and not line.endswith(b"\n")


def too_long(where: str) -> InputError:
    """Return the error of a line that was cut; ``where`` names file and line."""
    return InputError(f"{where}: longer than {MAX_LINE >> 20} MiB; give one record or text a line", kind="too-large")


def no_line(name: str) -> ToolError:
    """Return the error of a stream in which no line ends."""
    return ToolError(f"{name}: no text: a line of it has no end; give lines of records or texts", kind="too-large")


def _skip_line(stream: IO[bytes], name: str) -> None:
    """Read on behind the end of a line."""
    for _ in range(0, MAX_SKIPPED, _BLOCK):
        block = stream.readline(_BLOCK)
        if len(block) < _BLOCK or block.endswith(b"\n"):
            return
    raise no_line(name)
