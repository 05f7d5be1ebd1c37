"""Options that say where the work of a command is done."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from _toolio.cli.messages import note
from _toolio.engines.engine import Engine, LocalEngine
from _toolio.errors import UsageError, param


class Kind(StrEnum):
    """What does the work."""

    local = "local"
    ray = "ray"


Choice = Annotated[
    Kind,
    typer.Option(
        "--engine",
        help="Who does the work: local, this process; ray, the Ray cluster of RAY_ADDRESS, or one started here.",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        "--actors", min=1, metavar="N", help="Processes of --engine ray. Default: as many as the cluster has room for."
    ),
]
GpusPerActor = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-actor",
        min=0,
        metavar="X",
        help="GPUs of each, or the share of one. Default: 1 where the cluster has any, unless --device cpu.",
    ),
]


def choose(tool: str, kind: Kind, device: str, actors: int | None, gpus_per_actor: float | None) -> Engine:
    """Return the engine that the options name, which is to be entered.

    Raises
    ------
    UsageError
        An option is of another engine; and as `RayEngine`.
    ToolError
        Ray is not installed.
    """
    if kind is Kind.ray:
        from _toolio.engines.ray_engine import RayEngine

        return RayEngine(device, actors=actors, gpus_per_actor=gpus_per_actor, say=partial(note, tool))
    for name, value in (("actors", actors), ("gpus_per_actor", gpus_per_actor)):
        if value is not None:
            raise UsageError(f"{param(name)} is of {param('engine')} ray; give both")
    return LocalEngine(device)
