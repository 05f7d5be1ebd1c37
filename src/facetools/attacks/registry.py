"""Find attacks by name and parse their settings."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from _toolio.errors import UsageError, param
from facetools.attacks import methods
from facetools.attacks.base import Method


def _name_of(module: str) -> str:
    return re.sub(r"-v(\d+)-(\d+)$", r"-v\1.\2", module.replace("_", "-"))


@cache
def _modules() -> dict[str, str]:
    modules = (module.name for module in pkgutil.iter_modules(methods.__path__))
    return {_name_of(module): module for module in modules if not module.startswith("_")}


@cache
def names() -> tuple[str, ...]:
    """Return the names of all attacks, sorted."""
    return tuple(sorted(_modules()))


@cache
def find(name: str) -> Method:
    """Return an attack by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in names():
        raise UsageError(f"{param('attack')} {name}: not known; choose from {', '.join(names())}")
    identifier = _modules()[name]
    module = importlib.import_module(f"{methods.__name__}.{identifier}")
    return Method(
        name,
        getattr(module, identifier),
        getattr(module, "MODES", {}),
        getattr(module, "DEFAULT_MODE", None),
        getattr(module, "TARGETS", 0),
        getattr(module, "PER_PERSON", False),
        getattr(module, "OLDER_NAMES", {}),
        getattr(module, "UNRECORDED", {}),
    )


def list_knobs() -> str:
    """Return one line with every attack's modes and knobs with their defaults, for help texts."""
    lines = []
    for name in names():
        method = find(name)
        settings = ", ".join(f"{knob}={value:.4g}" for knob, value in method.knobs.items())
        modes = f" ({'|'.join(method.modes)}; {method.default_mode or 'none'})" if method.modes else ""
        lines.append(f"{name}{modes}: {settings or 'none'}.")
    return " ".join(lines)


def parse_knobs(method: Method, mode: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """Read a mode and ``knob=value`` settings, which override it: all knobs of the attack by name.

    Raises
    ------
    UsageError
        The attack has no such mode or knob, or the knob cannot have this value.
    """
    fill_knobs(method, mode, {})
    return fill_knobs(method, mode, parse_settings(method, settings))


def parse_settings(method: Method, settings: Sequence[str]) -> dict[str, Any]:
    """Read ``knob=value`` settings alone; each becomes the type of its default.

    Raises
    ------
    UsageError
        The attack has no such knob, or the knob cannot have this value.
    """
    known, values = method.knobs, dict[str, Any]()
    for setting in settings:
        knob, equals, text = setting.partition("=")
        knob = method.older.get(knob, knob)
        where = f"{param('knobs')} {setting}"
        if not equals or knob not in known:
            listing = ", ".join(f"{key}={value}" for key, value in known.items()) or "none"
            raise UsageError(f"{where}: {method.name} has the knobs {listing}")
        try:
            values[knob] = type(known[knob])(text)
        except ValueError:
            raise UsageError(f"{where}: {text!r} is no {type(known[knob]).__name__}") from None
        if wrong := _why_not(knob, values[knob]):
            raise UsageError(f"{where}: {knob} {wrong}")
    return values


def check_mode(method: Method, mode: str, named: str) -> None:
    """Raise UsageError, which calls the mode what it is ``named``, if the attack has no such mode."""
    if mode not in method.modes:
        listing = f"choose from {', '.join(method.modes)}" if method.modes else "it has none"
        raise UsageError(f"{named}: {method.name} has no such mode; {listing}")


def fill_knobs(method: Method, mode: str | None, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all knobs of an attack: its defaults, over them its mode's, over them those given.

    Raises
    ------
    UsageError
        The attack has no such mode or knob, or the knob cannot have this value.
    """
    known = method.knobs
    if mode is not None:
        check_mode(method, mode, f"{param('mode')} {mode}")
    chosen = mode or method.default_mode
    values = {**known, **(method.modes[chosen] if chosen else {})}
    for given, value in knobs.items():
        knob = method.older.get(given, given)
        if knob not in known:
            listing = ", ".join(f"{key}={default}" for key, default in known.items()) or "none"
            raise UsageError(f"{param('knobs')} {given}={value}: {method.name} has the knobs {listing}")
        if wrong := _why_not(knob, value):
            raise UsageError(f"{param('knobs')} {given}={value}: {knob} {wrong}")
        values[knob] = value
    return values


def _why_not(knob: str, value: float) -> str | None:
    """Return what is wrong with a knob's value, judged by the suffix of its name, or None."""
    if not math.isfinite(value):
        return "must be a number"
    if value < 0:
        return "cannot be negative"
    if knob.endswith("_size_px") and value % 2 == 0:
        return "is the side of a kernel and must be odd"
    if knob.endswith("_sigma_px") and value == 0:
        return "cannot be 0"
    return None
