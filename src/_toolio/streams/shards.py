"""Shards of the inputs, one a process: K of N, or the launcher's rank."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _toolio.errors import UsageError, param

NEXT = "next"
"""In place of a shard's number: those that nobody has made yet."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Shards that one process is to make.

    Attributes
    ----------
    numbers
        From 1 to ``total``.
    total
        Into how many parts the inputs are divided.
    unfinished
        Only those that nobody has made or is making.
    """

    numbers: range
    total: int
    unfinished: bool = False

    @property
    def is_one(self) -> bool:
        """Whether it is one shard that is named, and not several or what is left."""
        return not self.unfinished and self.numbers[0] == self.numbers[-1]


def parse_shards(text: str | None, environ: Callable[[str], str | None] = os.environ.get) -> Shards:
    """Return the shards of ``K/N``, ``A-B/N`` or ``next/N``; None is as of `parse_shard`.

    Raises
    ------
    UsageError
        There is no such shard.
    """
    first, slash, total = (text or "").partition("/")
    if slash and total.isdecimal() and int(total):
        if first == NEXT:
            return Shards(range(1, int(total) + 1), int(total), unfinished=True)
        first, dash, last = first.partition("-")
        if dash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= int(total):
            return Shards(range(int(first), int(last) + 1), int(total))
    number, parts = _one_shard(text, environ)
    return Shards(range(number, number + 1), parts)


def parse_shard(text: str | None, environ: Callable[[str], str | None] = os.environ.get) -> tuple[int, int]:
    """Return (K, N) of ``K/N``, K from 1; None takes ``RANK`` (from 0) and ``WORLD_SIZE``, or one shard.

    Raises
    ------
    UsageError
        There is no such shard, or several are named, which need a folder that keeps each.
    """
    shards = parse_shards(text, environ)
    if not shards.is_one:
        raise UsageError(f"{param('shard')} {text}: several shards need {param('into')}, a folder that keeps each")
    return shards.numbers[0], shards.total


def _one_shard(text: str | None, environ: Callable[[str], str | None]) -> tuple[int, int]:
    if text is None:
        rank, world = environ("RANK"), environ("WORLD_SIZE")
        if rank is None or world is None:
            return (1, 1)
        if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
            raise UsageError(
                f"RANK={rank} WORLD_SIZE={world}: RANK counts from 0 to WORLD_SIZE - 1; unset or mend them"
            )
        text = f"{int(rank) + 1}/{world}"
    number, slash, total = text.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise UsageError(f"{param('shard')} {text}: give K/N with K from 1 to N, such as 2/8; 3-5/8; next/8")
    return int(number), int(total)


def refuse_processes(command: str, environ: Callable[[str], str | None] = os.environ.get) -> None:
    """Refuse to run as one of many processes: a command that trains in one would write one output many times.

    Raises
    ------
    UsageError
        ``WORLD_SIZE`` says that there are several.
    """
    if environ("WORLD_SIZE") not in (None, "", "1"):
        raise UsageError(
            f"WORLD_SIZE={environ('WORLD_SIZE')}: {command} runs in one process; unset it, or run it alone"
        )


def file_of_shard(path: Path, shard: tuple[int, int]) -> Path:
    """Return the file that one of several shards writes: X.2-of-8.safetensors for X.safetensors."""
    number, total = shard
    return path if total == 1 else path.with_name(f"{path.stem}.{number}-of-{total}{path.suffix}")
