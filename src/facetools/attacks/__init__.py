"""Attacks: functions of (view, photos, keyword-only knobs) -> cloaked photos. One file an attack.

An attack is found by its file's name; its knobs are its function's keyword-only arguments; its summary
is its docstring's first line. No attack imports torch before it is called.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from _toolio.errors import UsageError

if TYPE_CHECKING:
    import torch


class View(Protocol):
    """How an attack sees a batch of face regions."""

    def features(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Align and embed: float32 [B, 3, H, W] in [0, 1] -> for each extractor float32 [B, D]."""

    def perceptual(self, photos: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Give a perceptual distance, float32 [B], for regions and their aligned chips."""


Attack = Callable[..., "torch.Tensor"]


@cache
def names() -> tuple[str, ...]:
    """List the attacks there are, by their files."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Attack:
    """Find an attack by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in names():
        raise UsageError(f"--attack {name}: not known; choose from {', '.join(names())}")
    identifier = name.replace("-", "_")
    function: Attack = getattr(importlib.import_module(f"{__name__}.{identifier}"), identifier)
    return function


def knobs(attack: Attack) -> dict[str, Any]:
    """List an attack's knobs with their defaults; what has no default (the seeds) is not for users."""
    parameters = inspect.signature(attack).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def list_knobs() -> str:
    """Write every attack's knobs with their defaults in one line, for help."""
    lines = []
    for name in names():
        settings = ", ".join(f"{knob}={value}" for knob, value in knobs(find(name)).items())
        lines.append(f"{name}: {settings or 'none'}.")
    return " ".join(lines)


def parse_knobs(attack: Attack, name: str, settings: Sequence[str]) -> Mapping[str, Any]:
    """Read ``knob=value`` settings; each becomes the type of its default.

    Raises
    ------
    UsageError
        The attack has no such knob, or it cannot have this value.
    """
    known = knobs(attack)
    values = dict(known)
    for setting in settings:
        knob, equals, text = setting.partition("=")
        if not equals or knob not in known:
            listing = ", ".join(f"{key}={value}" for key, value in known.items()) or "none"
            raise UsageError(f"--set {setting}: {name} has the knobs {listing}")
        try:
            values[knob] = type(known[knob])(text)
        except ValueError:
            raise UsageError(f"--set {setting}: {text!r} is no {type(known[knob]).__name__}") from None
        if wrong := _why_not(knob, values[knob]):
            raise UsageError(f"--set {setting}: {knob} {wrong}")
    return values


def _why_not(knob: str, value: float) -> str | None:
    """Say what is wrong with a knob's value; what a knob is tells its name."""
    if not math.isfinite(value):
        return "must be a number"
    if value < 0:
        return "cannot be negative"
    if knob.endswith("_size_px") and value % 2 == 0:
        return "is the side of a kernel and must be odd"
    if knob.endswith("_sigma_px") and value == 0:
        return "cannot be 0"
    return None
