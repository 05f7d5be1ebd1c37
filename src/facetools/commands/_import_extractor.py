"""Settings of ``facetools import-extractor`` as they are typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from _toolio.cli.messages import note
from _toolio.errors import UsageError
from facetools.extractors.settings import Settings


def say_unverified(record: Mapping[str, Any]) -> None:
    """Say on stderr where nothing verified that a graph is read rightly, and which settings it does not hold."""
    notes = [f"not verified: {record['not_verified']}"] if "not_verified" in record else []
    if assumed := record.get("assumed"):
        settings = record["settings"]
        stated = ", ".join(f"{name} {_typed(settings[name])}" for name in assumed)
        notes.append(f"assumed, for the graph does not say: {stated}; options of these names set them")
    for each in notes:
        note("facetools", f"{record['source']}: {each}")


def _typed(value: object) -> str:
    """Return a setting as an option takes it, the same number thrice as one."""
    if isinstance(value, tuple | list):
        value = value[:1] if len(set(value)) == 1 else value
        return ",".join(f"{number:g}" for number in value)
    return str(value).lower()


def parse_settings(words: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """Parse settings as they are typed, without those that are None.

    Parameters
    ----------
    words
        Fields of :class:`~facetools.extractors.settings.Settings`: ``input_size`` as ``112`` or ``112x96``
        (height first), ``mean`` and ``std`` as one number or three with commas, the others as they are.

    Raises
    ------
    UsageError
        A value is not valid; the message names its option.
    """
    given: dict[str, Any] = {name: value for name, value in words.items() if value is not None}
    for name, value in given.items():
        option = f"--{name.replace('_', '-')} {value}"
        if name == "input_size":
            if not (found := re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", value)):
                raise UsageError(f"{option}: give pixels, as 112, or height and width, as 112x96")
            given[name] = (int(found[1]), int(found[2] or found[1]))
        elif name in ("mean", "std"):
            if not re.fullmatch(r"-?\d+(\.\d+)?(,-?\d+(\.\d+)?,-?\d+(\.\d+)?)?", value):
                raise UsageError(f"{option}: give one number or three with commas, in units of 0 to 255")
            numbers = [float(number) for number in value.split(",")]
            given[name] = tuple(numbers * (3 // len(numbers)))
        try:
            replace(Settings((112, 112), "none"), **{name: given[name]}).check()
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
    return given
