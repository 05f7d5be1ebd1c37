"""Expected failures of a run, in three kinds. Anything else is a bug and keeps its traceback.

An ``OSError`` that names a file and is caught nowhere is taken for the file's fault: `_toolio.cli.app` reports it in
one line.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_BEGIN, _END = "\ue0b0", "\ue0b1"
"""Private-use characters around a parameter's name in a message: no file name or text is taken for one."""

_PARAMETER = re.compile(f"{_BEGIN}(\\w+){_END}")

_spellings: dict[str, str] = {}


def param(name: str) -> str:
    """Return a reference to a parameter, for the message of a `ToolError`.

    A library names what its caller passes: ``f"{param('held_out')} {share}: leaves nobody to train on"`` reads
    ``held_out 1.0: ...`` from Python; a command's user reads the option's spelling in its place.
    """
    return f"{_BEGIN}{name}{_END}"


def spell_parameters(spellings: Mapping[str, str]) -> None:
    """Set how messages of this process spell parameters: name in Python to what a command line has for it."""
    _spellings.clear()
    _spellings.update(spellings)


def spelled(text: str) -> str:
    """Return a text whose references to parameters are spelled as this process's user writes them."""
    return _PARAMETER.sub(lambda found: _spellings.get(found[1], found[1]), text)


def in_one_line(error: BaseException) -> str:
    """Return another library's error as one line of at most 300 characters; the name of its kind if it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


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
        self.kind = kind

    @property
    def message(self) -> str:
        """The line, with parameters spelled as the user writes them: see `param`."""
        return spelled(str(self.args[0]))

    def __str__(self) -> str:
        """Return the line."""
        return self.message


class UsageError(ToolError):
    """Arguments that cannot be used, or not together. Exit 2."""

    exit_code = 2

    def __init__(self, message: str, *, kind: str = "usage") -> None:
        super().__init__(message, kind=kind)


class InputError(ToolError):
    """One input of many cannot be used. It becomes a record, the run goes on and exits 3."""

    exit_code = 3


@contextmanager
def of_the_whole_run() -> Iterator[None]:
    """Raise an input's error as the run's: there is no other input to go on with."""
    try:
        yield
    except InputError as error:
        raise ToolError(error.message, kind=error.kind) from None
