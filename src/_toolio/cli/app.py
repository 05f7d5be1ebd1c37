"""Build a tool's command line, run it, and turn every end of a run into an exit code.

0 all well, 1 failed, 2 usage, 3 some inputs failed, 129 the terminal was closed, 130 interrupted, 143 terminated. A
reader that goes away ends the run quietly with 0, unless its result is files: then it goes on
(`_toolio.streams.records.RecordWriter`).
"""

import errno
import functools
import gc
import importlib
import importlib.util
import inspect
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib.machinery import SourceFileLoader
from types import CodeType, FrameType
from typing import Annotated, Any, NoReturn

import typer

from _toolio.cli import options
from _toolio.cli.interrupts import resumable
from _toolio.cli.manual import EXIT_STATUS, Page
from _toolio.cli.messages import complain, note
from _toolio.cli.progress import close_with
from _toolio.compute.memory import is_out_of_memory
from _toolio.errors import ToolError, spell_parameters
from _toolio.lazy import set_process_is_ours, uncollected
from _toolio.streams.reading import report_waiting
from _toolio.streams.records import Output, ReaderGoneError, discard_closed, discard_stdout, written_as
from _toolio.streams.shards import parse_shards
from _toolio.version import tool_version

ENDING = (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""Signals that end a run in order, as Ctrl-C does; Windows knows no closed terminal."""

EPILOG = f"Exit status: {EXIT_STATUS}"


SHOWN = 3
"""Examples at the end of a command's help."""


def closing_words(package: str, name: str, page: Page) -> str:
    """Return the end of a command's help: examples, exit status, and where there is more."""
    examples = "\n\n".join(
        "\b\n" + "\n".join((f"# {meaning}", *line.splitlines())) for line, meaning in page.examples[:SHOWN]
    )
    # The backspace keeps the lines of a paragraph as they are.
    return f"\b\nExamples:\n\n{examples}\n\nExit status: {page.exit_status}\n\nMore: man {package}-{name}"


def _version(package: str) -> Callable[[bool], None]:
    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{package} {tool_version()}")
            raise typer.Exit

    return show


def build_app(package: str, commands: Sequence[str], *, listing: bool = False) -> typer.Typer:
    """Build the Typer app of a package from its list of command names, in help order.

    A command called ``some-name`` is the function ``some_name`` in ``<package>/commands/some_name.py``;
    the first line of its docstring is its summary. ``listing`` leaves their options out, and imports none of them.
    """
    summary = (importlib.import_module(package).__doc__ or "").strip()
    app = typer.Typer(
        help=summary,
        epilog=EPILOG,
        no_args_is_help=False,
        # Rich help doubles the start-up time and puts box characters into pipes.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool,
            typer.Option("--version", help="Show the version and exit.", callback=_version(package), is_eager=True),
        ] = False,
    ) -> None:
        del version

    root.__doc__ = summary
    for name in commands:
        if listing:
            app.command(name)(_only_described(package, name))
            continue
        module = importlib.import_module(_module_of(package, name))
        function = getattr(module, name.replace("-", "_"))
        page = getattr(module, "PAGE", None)
        epilog = EPILOG if page is None else closing_words(package, name, page)
        app.command(name, epilog=epilog)(_with_forms(function, page.fields if page else ()))
    return app


def _module_of(package: str, name: str) -> str:
    return f"{package}.commands.{name.replace('-', '_')}"


def _with_forms(function: Callable[..., Any], fields: Iterable[str]) -> Callable[..., Any]:
    """Return a command with the options that choose how its records are written; CSV has ``fields``.

    One that has shards can write them into a folder of shards, too.
    """

    @functools.wraps(function)
    def command(*, table: bool, csv: bool, jsonl: bool, **given: Any) -> Any:
        with written_as(options.form_of(table=table, csv=csv, jsonl=jsonl), tuple(fields)) as output:
            tool = function.__module__.partition(".")[0]
            resumes = "resume" in given
            into = given.pop("into", None)
            # What makes several shards says itself how many it made.
            tells = resumes and (into is None or parse_shards(given["shard"]).is_one)
            with resumable(tool, given["out"], resume=given["resume"]) if tells else nullcontext():
                code = function(**given) if into is None else _run_shards(function, {**given, "into": into}, output)
        if output.line:
            close_with(output.line)
        return code

    signature = inspect.signature(function, eval_str=True)
    forms = (("table", options.Table), ("csv", options.Csv), ("jsonl", options.Jsonl))
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind) for name, kind in forms
    ]
    known = list(signature.parameters.values())
    if "shard" in signature.parameters:
        known.append(inspect.Parameter("into", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=options.Into))
    command.__signature__ = signature.replace(parameters=[*known, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {}  # they are in the signature, evaluated: typer would do so once more
    return command


def _run_shards(function: Callable[..., Any], given: Mapping[str, Any], output: Output) -> int:
    from _toolio.cli.sharding import run_shards

    return run_shards(function, given, output, functools.partial(note, function.__module__.partition(".")[0]))


def _only_described(package: str, name: str) -> Callable[[], None]:
    """Return a stand-in for a command that is only listed, with its docstring."""

    def stand_in() -> None: ...

    stand_in.__doc__ = _docstring(_module_of(package, name), name.replace("-", "_"))
    return stand_in


def _docstring(module: str, function: str) -> str | None:
    """Return a function's docstring as its module's compiled code has it.

    Importing the modules of all commands takes as long as all else that a list of them needs.
    """
    spec = None if module in sys.modules else importlib.util.find_spec(module)
    code = spec.loader.get_code(module) if spec and isinstance(spec.loader, SourceFileLoader) else None
    for each in code.co_consts if code else ():
        if isinstance(each, CodeType) and each.co_name == function and isinstance(found := each.co_consts[0], str):
            return found
    described: str | None = getattr(importlib.import_module(module), function).__doc__
    return described


def run_tool(package: str, commands: Sequence[str], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a tool with the process's arguments and exit."""
    code = 1
    set_process_is_ours(True)
    try:
        code = _run(package, commands, sys.argv[1:] if arguments is None else list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):
        code = 0
    except KeyboardInterrupt:
        code = 130
    except ToolError as error:
        code = error.exit_code
        complain(package, error.message)
    except SystemExit as stop:
        if not isinstance(stop.code, int):
            raise
        code = stop.code
    except OSError as error:
        complain(package, _of_a_file(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        complain(package, "out of memory; try fewer at a time, smaller inputs, or a machine with more of it")
    spell_parameters({})
    _silence_stdout()
    # What is left ends with the process. To look for cycles in it takes 0.4 s where torch has been imported.
    gc.freeze()
    set_process_is_ours(False)
    if _threads_are_left():
        # A thread that still waits for stdin holds its lock, and the interpreter dies of that on its way out.
        if sys.stderr is not None:
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _threads_are_left() -> bool:
    """Test whether a thread of `_toolio.compute.threads` is alive; most runs have none, and do not import that."""
    if threading.active_count() == 1:
        return False
    from _toolio.compute.threads import THREAD_PREFIX

    return any(thread.name.startswith(THREAD_PREFIX) for thread in threading.enumerate())


def _run(package: str, commands: Sequence[str], arguments: list[str]) -> int:
    for number in ENDING:
        # What nohup, or a shell that starts a job in the background, has made us ignore stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    if not sys.warnoptions:
        # Libraries' warnings are for programmers; stderr is for people. python -W shows them.
        warnings.simplefilter("ignore")
    # A third of the start-up time goes into describing commands: describe only the one that is called.
    named = bool(arguments) and arguments[0] in commands
    completing = f"_{package.upper()}_COMPLETE" in os.environ
    with uncollected():
        app = build_app(package, arguments[:1] if named else commands, listing=not (named or completing))
        command = typer.main.get_command(app)
    if named:
        from _toolio.files.holders import set_command
        from _toolio.streams.remote import without_secrets

        # Others read it, in a claim's file and in what they are told of it.
        set_command([package, *map(without_secrets, arguments)])
        spell_parameters(_spellings_of(command, arguments[0]))
        report_waiting(functools.partial(note, package))
    stdout = sys.stdout
    try:
        result = command.main(arguments or ["--help"], prog_name=package, standalone_mode=False)
    except SystemExit:
        # Click ends a closed pipe itself, with a wrapper around stdout and exit code 1.
        if sys.stdout is not stdout:
            raise ReaderGoneError from None
        raise
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer carries its own Click, whose exceptions have no public name in common.
        if not hasattr(error, "format_message"):
            raise
        complain(package, f"{_one_line(error.format_message())}{_hint(error)}")
        return 2
    return result if isinstance(result, int) else 0


def _spellings_of(group: Any, name: str) -> dict[str, str]:
    """Return what a command's users write for each of its function's parameters: an option, or an argument's name."""
    parameters = getattr(group, "commands", {}).get(name, group).params
    return {
        each.name: each.opts[0] if each.param_type_name == "option" else (each.metavar or each.name.upper())
        for each in parameters
    }


def _of_a_file(error: OSError) -> str:
    """Return one line about the file of an `OSError` that nothing caught; raise it again if it names none."""
    if error.filename is not None and error.strerror:
        name = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else str(error.filename)
        advice = "; give a shorter name" if error.errno == errno.ENAMETOOLONG else ""
        return f"{os.fsdecode(name)}: {error.strerror}{advice}"
    # Flushing what typer printed itself, such as help into a full disk.
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return f"stdout: {error.strerror}"
    raise error


def _hint(error: Any) -> str:
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else ""
    if (
        context is not None
        and "unexpected extra argument" in error.format_message()
        and any("--in" in parameter.opts for parameter in context.command.params)
    ):
        return "; name inputs with --in"
    return f"; see '{path} --help'" if path else ""


def _one_line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that half-written files are removed on the way out."""
    del frame
    if number != signal.SIGTERM:
        # Of a closed terminal the kernel and the shell say so one after the other: the second must not end the tidying.
        signal.signal(number, signal.SIG_IGN)
        discard_closed()
    raise SystemExit(128 + number)


def _silence_stdout() -> None:
    """Keep the interpreter's last flush from failing again on a stdout that has already failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        discard_stdout()
