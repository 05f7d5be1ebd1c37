"""Every end of a run becomes an exit code and at most one line."""

from __future__ import annotations

import errno
import gc
import importlib
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import berttools.cli
import facetools.cli
from _toolio.cli import app
from _toolio.errors import InputError, ToolError, UsageError
from _toolio.files import holders
from _toolio.streams.records import ReaderGoneError


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run a tool of one command, which ends as the test wants it to."""
    before = {number: signal.getsignal(number) for number in app.ENDING}

    def run(ending: Callable[[], Any], *arguments: str) -> int:
        def one() -> Any:
            """Do one thing."""
            return ending()

        package = types.ModuleType("sometool")
        package.__doc__ = "Some tool."
        module = types.ModuleType("sometool.commands.one")
        module.one = one  # type: ignore[attr-defined]
        for each in (package, types.ModuleType("sometool.commands"), module):
            monkeypatch.setitem(sys.modules, each.__name__, each)
        with pytest.raises(SystemExit) as caught:
            app.run_tool("sometool", ("one",), arguments or ("one",))
        assert isinstance(caught.value.code, int)
        return caught.value.code

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Callable[[], None]:
    def ending() -> None:
        raise error

    return ending


NO_MEMORY = "out of memory; try fewer at a time, smaller inputs, or a machine with more of it"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ToolError("a.jpg: broken; try b.jpg"), 1, "sometool: error: a.jpg: broken; try b.jpg\n"),
        (UsageError("--x: wrong"), 2, "sometool: error: --x: wrong\n"),
        (InputError("a: gone"), 3, "sometool: error: a: gone\n"),
        (ToolError("a\nb\x1b[31m\udcff"), 1, "sometool: error: a\\nb\\x1b[31m\\udcff\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(143), 143, ""),
        (ReaderGoneError(), 0, ""),
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 1, "sometool: error: stdout: No space left on device\n"),
        (MemoryError(), 1, f"sometool: error: {NO_MEMORY}\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), 1, f"sometool: error: {NO_MEMORY}\n"),
        (PermissionError(13, "Permission denied", "a\nb"), 1, "sometool: error: a\\nb: Permission denied\n"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", b"a"),
            1,
            "sometool: error: a: File name too long; give a shorter name\n",
        ),
    ],
)
def test_endings(
    tool: Callable[..., int], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert tool(raising(error)) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3), (4, 4), ("text", 0)])
def test_a_command_gives_its_exit_code(tool: Callable[..., int], result: object, code: int) -> None:
    assert tool(lambda: result) == code


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("no file"), OSError(9, "Bad descriptor")])
def test_bugs_keep_their_traceback(tool: Callable[..., int], error: Exception) -> None:
    with pytest.raises(type(error)):
        tool(raising(error))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("two",), "No such command 'two'"),
        (("one", "--x"), "No such option: --x; see 'sometool one --help'"),
        (("one", "surplus"), "surplus"),
    ],
)
def test_usage_errors(
    tool: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert tool(lambda: None, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sometool: error: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_termination_is_an_exception_with_the_shells_code(tool: Callable[..., int]) -> None:
    assert tool(lambda: signal.raise_signal(signal.SIGTERM)) == 128 + signal.SIGTERM


LISTS = {"facetools": facetools.cli.COMMANDS, "berttools": berttools.cli.COMMANDS}


@pytest.mark.parametrize(("tool", "name"), [(tool, name) for tool, names in LISTS.items() for name in names])
def test_a_listed_command_is_described_by_its_docstring(tool: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function = f"{tool}.commands.{name.replace('-', '_')}", name.replace("-", "_")
    described = getattr(importlib.import_module(module), function).__doc__
    assert described
    monkeypatch.delitem(sys.modules, module)
    assert app._docstring(module, function) == described
    assert module not in sys.modules


@pytest.mark.parametrize("tool", LISTS)
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_a_list_of_commands_imports_none_of_them(tool: str, arguments: list[str]) -> None:
    """To import all of them would double the time that the help of a tool takes."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(*(name for name in sys.modules if '.commands.' in name), file=sys.stderr))\n"
        f"sys.argv = [{tool!r}, *{arguments!r}]\n"
        f"from {tool}.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "commands." not in done.stderr
    assert done.returncode == (2 if arguments == ["no-such-command"] else 0)


def test_who_waits_for_an_output_reads_no_secrets(tool: Callable[..., int]) -> None:
    tool(lambda: 0, "one", "--in=https://ann:pw@host/x.tar?sig=abc", "s3://bucket/a", "--out", "x")
    assert holders.about([])["command"] == "sometool one --in=https://host/x.tar s3://bucket/a --out x"


def test_the_collector_works_while_a_command_runs(tool: Callable[..., int]) -> None:
    """It rests while the command is imported, and what it has not looked at does not pile up afterwards."""
    found: list[object] = []
    before = gc.get_threshold()
    assert tool(lambda: found.extend([gc.isenabled(), gc.get_threshold()])) == 0
    assert found == [True, before]
