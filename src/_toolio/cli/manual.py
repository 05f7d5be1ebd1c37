"""Manual pages: the parts of a command's page besides its options."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ENDED = "129 terminal closed (SIGHUP), 130 interrupted (SIGINT), 143 terminated (SIGTERM)."


def exit_status(more: str = "") -> str:
    """Return the exit codes of a command in one line; ``more`` are those that no other has, with a comma behind."""
    some = f"{more} " if more else ""
    return f"0 all well, 1 failed, 2 usage, 3 some inputs failed (their records say which), {some}{_ENDED}"


EXIT_STATUS = exit_status()


@dataclass(frozen=True)
class Page:
    """The hand-written parts of one man page.

    Attributes
    ----------
    fields
        Field of a record to its meaning.
    examples
        Command lines that work as they stand, and what each does.
    exit_status
        Where it is not the same as everywhere.
    """

    fields: Mapping[str, str]
    examples: Sequence[tuple[str, str]]
    exit_status: str = EXIT_STATUS


def pages_of(package: str, commands: Sequence[str]) -> dict[str, Page]:
    """Return the page of each command of a package: ``PAGE`` in ``<package>/commands/some_name.py``."""
    return {name: importlib.import_module(f"{package}.commands.{name.replace('-', '_')}").PAGE for name in commands}
