"""What libraries in other languages do besides raising an exception: they write to stdout and stderr, and panic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

STDOUT, STDERR = 1, 2


@contextmanager
def discarded(*descriptors: int) -> Iterator[None]:
    """Discard what any thread writes to file descriptors inside the block, past Python's own streams."""
    with ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for descriptor in descriptors:
            try:
                kept = os.dup(descriptor)
            except OSError:  # it is closed
                continue
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(nowhere, descriptor)
        yield


class PanicError(RuntimeError):
    """A library in Rust has panicked: it has met what its authors thought could not be."""


@contextmanager
def panics_raised() -> Iterator[None]:
    """Raise a panic inside the block as a `PanicError`: PyO3's is no Exception, and in no module to import it from."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise PanicError(str(error)) from error
