"""The three ways in which a run can fail on purpose. Anything else is a bug and keeps its traceback.

Only an ``OSError`` that names a file, and that nobody foresaw, is taken for the file's fault: `_toolio.cli.app`
says it in one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ToolError(Exception):
    """An expected failure of the whole run: one line that says what, which file, what to try. Exit 1.

    Parameters
    ----------
    message
        One line, no full stop, no leading capital: it is printed behind ``tool: error:``.
    kind
        A short constant that programs can match, such as ``"truncated"``; it goes into error records.
    """

    exit_code = 1

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


class UsageError(ToolError):
    """The command line asks for something that cannot be. Exit 2."""

    exit_code = 2

    def __init__(self, message: str, *, kind: str = "usage") -> None:
        super().__init__(message, kind=kind)


class InputError(ToolError):
    """One input of many cannot be used. It becomes a record, the run goes on and exits 3."""

    exit_code = 3


@contextmanager
def of_the_whole_run() -> Iterator[None]:
    """Let what is wrong with an input end the run: there is no other input that it could go on with."""
    try:
        yield
    except InputError as error:
        raise ToolError(error.message, kind=error.kind) from None
