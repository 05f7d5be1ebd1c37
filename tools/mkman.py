"""Write the man pages of both tools from their Typer trees, or check that they are up to date.

Usage: python tools/mkman.py [--check] [FOLDER]

One page a command. Options and their words come from the command's function, record fields and
examples from the ``PAGE`` in its file.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import typer

from _toolio.cli.app import build_app
from _toolio.cli.manual import EXIT_STATUS, Page
from _toolio.version import tool_version

TOOLS = ("facetools", "berttools")


def escape(text: str) -> str:
    """Make a line of text safe for roff: backslashes, hyphens that are typed, dots and quotes in front."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def paragraphs(text: str) -> list[str]:
    """Turn a docstring into roff paragraphs; further paragraphs are set apart."""
    blocks = [" ".join(block.split()) for block in text.split("\n\n")]
    return [line for block in blocks if block for line in (".PP", escape(block))]


def heading(page: str, tool: str) -> list[str]:
    """Begin a page. No date: a page must not differ from build to build."""
    return [f'.TH "{escape(page.upper())}" "1" "" "epsilon\\-tools {tool_version()}" "{tool} manual"']


def option_lines(parameter: Any) -> list[str]:
    """Describe one option."""
    names = ", ".join(f"\\fB{escape(name)}\\fR" for name in [*parameter.opts, *parameter.secondary_opts])
    takes_value = not getattr(parameter, "is_flag", False)
    kind = getattr(parameter.type, "name", "value")
    metavar = parameter.metavar or {"float range": "NUMBER", "int range": "N", "integer": "N"}.get(kind, kind.upper())
    if getattr(parameter.type, "choices", None):
        metavar = "|".join(str(getattr(choice, "value", choice)) for choice in parameter.type.choices)
    lines = [".TP", names + (f" \\fI{escape(metavar)}\\fR" if takes_value else "")]
    words = [(parameter.help or "").strip()]
    low, high = (getattr(parameter.type, end, None) for end in ("min", "max"))
    if low is not None:
        words.append(f"{low} to {high}." if high is not None else f"{low} or more.")
    default = parameter.default
    if parameter.required:
        words.append("Required.")
    elif takes_value and default not in (None, "") and "Default" not in words[0]:
        values = default if isinstance(default, list) else [default]
        words.append(f"Default: {', '.join(str(getattr(value, 'value', value)) for value in values)}.")
    return [*lines, escape(" ".join(words))]


def command_page(tool: str, name: str, command: Any, schema: str | None, manual: Page) -> str:
    """Write the page of one command."""
    page = f"{tool}-{name}"
    summary, _, rest = (command.help or "").partition("\n\n")
    summary = " ".join(summary.split()).rstrip(".")
    lines = [
        *heading(page, tool),
        ".SH NAME",
        f"{escape(page)} \\- {escape(summary[:1].lower() + summary[1:])}",
    ]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    positional = " ".join(f"\\fI{escape(p.metavar or p.name.upper())}\\fR" for p in arguments)
    required = " ".join(
        f"\\fB{escape(p.opts[0])}\\fR \\fI{escape(p.metavar or p.name.upper())}\\fR"
        for p in command.params
        if p.required and p not in arguments
    )
    lines += [
        ".SH SYNOPSIS",
        " ".join(f"\\fB{tool} {escape(name)}\\fR {required} [\\fIoptions\\fR] {positional}".split()),
    ]
    lines += [".SH DESCRIPTION", escape(summary + "."), *paragraphs(rest)]
    lines += [".SH OPTIONS"]
    for argument in arguments:
        lines += [
            ".TP",
            f"\\fI{escape(argument.metavar or argument.name.upper())}\\fR",
            escape(argument.help or ""),
        ]
    for parameter in command.params:
        if parameter not in arguments:
            lines += option_lines(parameter)
    lines += [".TP", "\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "Show help and exit."]
    of = f"schema \\fB{escape(schema)}\\fR" if schema else "as another command wrote it"
    lines += [
        ".SH RECORDS",
        f"One JSON object a line, {of}; on a terminal, a table.",
    ]
    for field, meaning in manual.fields.items():
        lines += [".TP", f"\\fB{escape(field)}\\fR", escape(meaning)]
    lines += [".SH EXAMPLES"]
    for line, meaning in manual.examples:
        lines += [".PP", escape(meaning), ".PP", ".RS 4", ".nf", *map(escape, line.splitlines()), ".fi", ".RE"]
    lines += [".SH EXIT STATUS", escape(manual.exit_status)]
    lines += [".SH SEE ALSO", f"\\fB{tool}\\fR(1)"]
    return "\n".join(lines) + "\n"


def tool_page(tool: str, group: Any) -> str:
    """Write the page of a tool: its commands, each with its summary."""
    about = (importlib.import_module(tool).__doc__ or "").strip()
    summary = about.splitlines()[0].rstrip(".")
    lines = [*heading(tool, tool), ".SH NAME", f"{tool} \\- {escape(summary[:1].lower() + summary[1:])}"]
    lines += [".SH SYNOPSIS", f"\\fB{tool}\\fR \\fIcommand\\fR [\\fIoptions\\fR]", ".SH COMMANDS"]
    for name, command in group.commands.items():
        short = " ".join((command.help or "").partition("\n\n")[0].split())
        lines += [".TP", f"\\fB{tool}\\-{escape(name)}\\fR(1)", escape(short)]
    lines += [
        ".SH RECORDS",
        "Commands write one JSON object a line to standard output and nothing else. The first",
    ]
    lines += ["field is the number that ranks it, so that \\fBsort\\fR(1) ranks a stream. Fields that a command"]
    lines += ["does not know pass through. What goes wrong with one input is a record with the field \\fBerror\\fR."]
    lines += [".SH EXIT STATUS", escape(EXIT_STATUS)]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Write every page: file name to text."""
    out = {}
    for tool in TOOLS:
        names = importlib.import_module(f"{tool}.cli").COMMANDS
        group: Any = typer.main.get_command(build_app(tool, names))
        out[f"{tool}.1"] = tool_page(tool, group)
        for name, command in group.commands.items():
            module = importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}")
            out[f"{tool}-{name}.1"] = command_page(tool, name, command, getattr(module, "SCHEMA", None), module.PAGE)
    return out


def main(arguments: list[str]) -> int:
    """Write or check the pages."""
    check = "--check" in arguments
    folder = Path(next((a for a in arguments if not a.startswith("-")), Path(__file__).parent.parent / "man"))
    wanted = pages()
    present = {path.name: path.read_text() for path in folder.glob("*.1")}
    if check:
        stale = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
        if stale:
            print(f"mkman: error: {', '.join(stale)} out of date; run make man", file=sys.stderr)
        return 1 if stale else 0
    folder.mkdir(exist_ok=True)
    for name in present.keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
