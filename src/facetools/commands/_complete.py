"""Complete values of options in a shell, without importing what computes; what is known of them is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from _toolio.cli.options import starting, starting_last

if TYPE_CHECKING:
    from facetools.attacks.base import Method


def attacks(incomplete: str) -> list[str]:
    """Return attacks."""
    from facetools.attacks import registry

    return starting(registry.names(), incomplete)


def modes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return modes: of the attack that is named, else of all."""
    return starting((mode for method in _methods(ctx) for mode in method.modes), incomplete)


def knobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return knobs with their defaults, of the attack that is named, else of all."""
    settings = (f"{knob}={value}" for method in _methods(ctx) for knob, value in method.knobs.items())
    return starting(settings, incomplete)


def _methods(ctx: typer.Context) -> Iterator[Method]:
    from facetools.attacks import registry

    named = (ctx.params or {}).get("attack")
    return map(registry.find, [named] if named in registry.names() else registry.names())


def extractors(incomplete: str) -> list[str]:
    """Return built-in extractors, safetensors files, and folders."""
    from facetools.extractors.factory import BUILT_IN

    folder, slash, _ = incomplete.rpartition("/")
    beside = sorted(Path(folder or slash or ".").iterdir()) if Path(folder or slash or ".").is_dir() else []
    files = [path for path in beside if path.is_dir() or path.suffix == ".safetensors"]
    found = (f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in files)
    return starting([*BUILT_IN, *found], incomplete)


def preprocesses(incomplete: str) -> list[str]:
    """Return examples of each preprocessing step."""
    return starting(("none", "jpeg:75", "resize:0.5", "blur:1"), incomplete)


def views(incomplete: str) -> list[str]:
    """Return random views, joined by commas."""
    from facetools.transforms.differentiable import NAMES

    return starting_last(NAMES, incomplete)
