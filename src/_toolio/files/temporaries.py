"""Names of what a run writes before it has its final name, and how what a dead run left behind is found by them."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from _toolio.files.hashing import text_digest

RUN = os.urandom(4).hex()
"""Name of this run. Process numbers come again, and mean nothing on another machine that writes to the same disk."""

TEMPORARY, ASIDE = "tmp", "old"
"""Endings of what is not finished yet, and of what was moved aside to make room."""

_NAME = re.compile(r"\.(?P<head>.*)\.(?P<run>[^.]+)\.\d+\.(?P<ending>[a-z]+)", re.DOTALL)

_LONGEST_HEAD = 40
"""In characters, of up to four bytes each."""

_serial = count()


def _begin_run() -> None:
    """Name a forked copy of the process anew: what it writes is not what the process writes."""
    global RUN
    RUN = os.urandom(4).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_run)


def head_of(name: str) -> str:
    """Return what hidden names beside a name begin with: one of 255 bytes leaves no room for more.

    Different names have different heads: those that are cut end in a digest, and are longer than any whole one.
    """
    return name if len(name) <= _LONGEST_HEAD else f"{name[:_LONGEST_HEAD]}~{text_digest(name).hex()[:16]}"


def name_beside(target: Path, ending: str = TEMPORARY) -> Path:
    """Return a name of this run's in the same folder (a rename must not cross file systems), another at each call."""
    return target.with_name(f".{head_of(target.name)}.{RUN}.{next(_serial)}.{ending}")


def create_beside(target: Path) -> Path:
    """Create an empty file beside a target, mode by the umask."""
    while True:
        temp = name_beside(target)
        with suppress(FileExistsError):
            os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return temp


def make_beside(target: Path) -> Path:
    """Make an empty folder beside a target, mode by the umask."""
    while True:
        temp = name_beside(target)
        with suppress(FileExistsError):
            temp.mkdir()
            return temp


def is_left(name: str, runs: Collection[str], ending: str = TEMPORARY, *, heads: Collection[str] | None = None) -> bool:
    """Test whether a name is one that some of the runs have given, of any output or of those with some heads."""
    found = _NAME.fullmatch(name)
    if found is None or found["run"] not in runs or found["ending"] != ending:
        return False
    return heads is None or found["head"] in heads


def left_beside(targets: Iterable[Path], runs: Collection[str], ending: str = TEMPORARY) -> Iterator[Path]:
    """Yield what runs have left of some outputs, and of none that has a similar name; nothing where that is unreadable.

    Nor what the same runs have of other outputs, which they may still be writing.
    """
    heads = defaultdict[Path, set[str]](set)
    for target in targets:
        heads[target.parent].add(head_of(target.name))
    for folder, of_folder in heads.items():
        with suppress(OSError):
            yield from [path for path in folder.iterdir() if is_left(path.name, runs, ending, heads=of_folder)]


def remove(path: Path) -> None:
    """Remove a file or a folder as far as that is possible; of a link the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
