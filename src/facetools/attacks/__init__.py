"""Attacks: functions of (view, photos, keyword-only knobs) -> cloaked photos. One file an attack.

An attack is found by its file's name (``fawkes_v1_0.py`` is ``fawkes-v1.0``); its knobs are its function's
keyword-only arguments; its summary is its docstring's first line. A file may also say:

- ``MODES``: names of modes, weakest first, and the knobs that each sets; ``DEFAULT_MODE`` is one of them.
- ``TARGETS``: how many other people's embeddings it pulls a face to; 0 if it says nothing.
- ``PER_PERSON = True``: it makes one mask for all photos of a person. Its function takes one ``MaskView`` for
  each of them and the mask's shape, (3, S, S), and gives the mask instead of photos.

No attack imports torch before it is called. Files whose names begin with ``_`` are what attacks share.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from _toolio.errors import UsageError

if TYPE_CHECKING:
    import torch


class View(Protocol):
    """How an attack sees a batch of B face regions.

    Where a method takes ``photos``, they are [m * B, 3, H, W]: m versions of all regions one after the other, as
    ``torch.cat`` stacks them. What it gives keeps that order. Changes fade out towards a region's edges: every
    method sees what would be saved.
    """

    @property
    def targets(self) -> Sequence[torch.Tensor]:
        """For each extractor float32 [B, K, D]: embeddings of K other people for each region; K of ``TARGETS``."""

    def embed(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Align and embed: float32 [m * B, 3, H, W] in [0, 1] -> for each extractor float32 [m * B, D]."""

    def features(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Embed as ``embed`` does, through a random view of each photo where the user asked for views.

        A random view is what an upload may do to a photo. Each call draws anew, for each photo from its own seed.
        """

    def smooth(self, photos: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
        """Blur [m * B, 3, H, W] with a Gaussian, kernel side and deviation in pixels; a region's own edges reflect."""

    def perceptual(self, photos: torch.Tensor) -> torch.Tensor:
        """Give the perceptual distance to the clean regions, float32 [m * B]."""

    def dssim(self, photos: torch.Tensor) -> torch.Tensor:
        """Give (1 - SSIM) / 2 to the clean regions, 0 to 1, float32 [m * B]."""


class MaskView(View, Protocol):
    """How an attack that makes one mask a person sees one region, B = 1."""

    def lay(self, mask: torch.Tensor) -> torch.Tensor:
        """Add a mask, float32 [3, S, S] on any device, to the clean region: [1, 3, H, W] in [0, 1], differentiable.

        A mask of zeros gives the clean region. On a grey region the mean of the mask's channels counts, so that it
        stays grey.
        """


Attack = Callable[..., "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Method:
    """An attack and what its file says of it.

    Attributes
    ----------
    name
        As ``--attack`` takes it.
    function
        The attack.
    modes, default_mode
        Knobs that each mode sets; no modes and None where the attack has none.
    targets
        How many other people it pulls a face to.
    per_person
        One mask a person.
    """

    name: str
    function: Attack
    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_mode: str | None = None
    targets: int = 0
    per_person: bool = False

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs with their defaults; what has no default (the seeds) is not for users."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def _name_of(module: str) -> str:
    return re.sub(r"-v(\d+)-(\d+)$", r"-v\1.\2", module.replace("_", "-"))


@cache
def _modules() -> dict[str, str]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return {_name_of(module): module for module in modules if not module.startswith("_")}


@cache
def names() -> tuple[str, ...]:
    """List the attacks there are, by their files."""
    return tuple(sorted(_modules()))


@cache
def find(name: str) -> Method:
    """Find an attack by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in names():
        raise UsageError(f"--attack {name}: not known; choose from {', '.join(names())}")
    identifier = _modules()[name]
    module = importlib.import_module(f"{__name__}.{identifier}")
    return Method(
        name,
        getattr(module, identifier),
        getattr(module, "MODES", {}),
        getattr(module, "DEFAULT_MODE", None),
        getattr(module, "TARGETS", 0),
        getattr(module, "PER_PERSON", False),
    )


def list_knobs() -> str:
    """Write every attack's modes and knobs with their defaults in one line, for help."""
    lines = []
    for name in names():
        method = find(name)
        settings = ", ".join(f"{knob}={value:.4g}" for knob, value in method.knobs.items())
        modes = f" ({'|'.join(method.modes)}; {method.default_mode})" if method.modes else ""
        lines.append(f"{name}{modes}: {settings or 'none'}.")
    return " ".join(lines)


def parse_knobs(method: Method, mode: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """Read a mode and ``knob=value`` settings, which go over it; each becomes the type of its default.

    Raises
    ------
    UsageError
        The attack has no such mode or knob, or the knob cannot have this value.
    """
    known = method.knobs
    if mode is not None and mode not in method.modes:
        listing = f"choose from {', '.join(method.modes)}" if method.modes else "it has none"
        raise UsageError(f"--mode {mode}: {method.name} has no such mode; {listing}")
    chosen = mode or method.default_mode
    values = {**known, **(method.modes[chosen] if chosen else {})}
    for setting in settings:
        knob, equals, text = setting.partition("=")
        if not equals or knob not in known:
            listing = ", ".join(f"{key}={value}" for key, value in known.items()) or "none"
            raise UsageError(f"--set {setting}: {method.name} has the knobs {listing}")
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
