"""Lines for people on stderr, beside the records: errors, warnings, notes."""

from __future__ import annotations

import sys

from _toolio.words import printable


def complain(tool: str, text: str) -> None:
    """Print what ended a run: what went wrong, which file, and what to try."""
    _print(tool, "error", text)


def warn(tool: str, text: str) -> None:
    """Print what makes a result worth less than it looks."""
    _print(tool, "warning", text)


def note(tool: str, text: str) -> None:
    """Print what does not end a run and is in none of its records."""
    _print(tool, "note", text)


def _print(tool: str, kind: str, text: str) -> None:
    if sys.stderr is not None:
        # Names of files may hold newlines and worse: one line stays one line.
        sys.stderr.write(f"{tool}: {kind}: {printable(text)}\n")
