"""Convert and check what a configuration is made with, from Python as from a command line."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TypeVar

from _toolio.errors import UsageError, param

E = TypeVar("E", bound=StrEnum)


def choice_of(kind: type[E], value: str, name: str) -> E:
    """Return the member of an enumeration that a value is, or is the text of.

    Parameters
    ----------
    kind
        The enumeration.
    value
        A member of it, or a member's text.
    name
        The parameter's name.

    Raises
    ------
    UsageError
        It is neither; the message names the parameter and the choices.
    """
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{param(name)} {value}: is none of {', '.join(kind)}") from None


def refuse_below_one(value: int | None, name: str) -> None:
    """Raise UsageError if a number, if there is one, is less than 1; ``name`` is the parameter's."""
    if value is not None and value < 1:
        raise UsageError(f"{param(name)} {value}: is less than 1")


def list_fields(config: object, *names: str) -> None:
    """Set fields of a frozen dataclass that are one text, or path, to a list of it.

    A text is a sequence of its letters, and would be taken for as many names.
    """
    for name in names:
        if isinstance(value := getattr(config, name), str | os.PathLike):
            object.__setattr__(config, name, [value])
