"""What ``berttools layerdiff`` does between its options and its records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from _toolio.errors import UsageError

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint
    from berttools.layerdiff.compare import Choice


class Baseline(StrEnum):
    """What the base is compared with besides."""

    random_init = "random-init"


def expression(text: str | None) -> str | None:
    """Refuse what is no regular expression."""
    try:
        re.compile(text or "")
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is no regular expression: {error}") from None
    return text


def choose(only: str | None, group: str | None, group_map: Path | None, strip: Sequence[str]) -> Choice:
    """Make of the options what to compare.

    Raises
    ------
    UsageError
        An unknown group, or a file of groups that is none.
    """
    from berttools.checkpoints.groups import Grouping, read_group_map

    grouping = read_group_map(group_map) if group_map else Grouping()
    wanted = frozenset(filter(None, (name.strip() for name in (group or "").split(","))))
    if unknown := sorted(wanted - set(grouping.names)):
        raise UsageError(f"--group {unknown[0]}: no such group; there are {', '.join(grouping.names)}")
    if group is not None and not wanted:
        raise UsageError(f"--group: name one of {', '.join(grouping.names)}")
    # Behind the refusals, which need no numpy.
    from berttools.layerdiff.compare import Choice

    return Choice(grouping, re.compile(only) if only else None, wanted, tuple(strip))


def open_models(base: Path, ft: Sequence[Path]) -> list[Checkpoint]:
    """Open the base and what was made of it, adapters merged and 8-bit weights scaled. Raises as `open_tuned`."""
    from berttools.checkpoints.files import open_checkpoint
    from berttools.checkpoints.lora import open_tuned
    from berttools.checkpoints.quantized import with_scales

    first = with_scales(open_checkpoint(base))
    return [first, *(with_scales(open_tuned(path, first)) for path in ft)]


def pairs_of(count: int, *, each_other: bool) -> list[tuple[int, int]]:
    """List what to compare, the base being 0: every fine-tuned model with it, and then with each other.

    Raises
    ------
    UsageError
        There are no two fine-tuned models.
    """
    if each_other and count < 3:
        raise UsageError("--pairs compares fine-tuned checkpoints with each other: name two or more")
    return [*((0, number) for number in range(1, count)), *(combinations(range(1, count), 2) if each_other else ())]
