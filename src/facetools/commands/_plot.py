"""Parse the options of ``facetools plot`` that say which records are of clean and of cloaked faces."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from _toolio.errors import UsageError
from _toolio.streams.inputs import STDIN
from facetools.names import CLEAN, parse_cloaked
from facetools.reporting.detector_scores import Truth

_RECORDS = (".jsonl", ".ndjson", ".json")


def parse_truth(files: Sequence[str], clean: Sequence[str], cloaked: Sequence[str]) -> Truth:
    """Parse files of records, and what is clean and cloaked.

    Parameters
    ----------
    files
        Files of records, or ``-`` for stdin. None: stdin, unless another file is named.
    clean, cloaked
        Files of records that all are of that kind; or folders, archives or glob patterns of photos that records name.
        ``cloaked`` may be ``NAME=PATH``.

    Raises
    ------
    UsageError
        Nothing was named and stdin is a terminal, stdin twice, or two cloaks of one name.
    """
    named = [("--clean", path, path, CLEAN) for path in clean]
    for text in cloaked:
        name, path = parse_cloaked(text)
        if name in (CLEAN, *(other for *_, other in named)):
            raise UsageError(f"--cloaked {text}: something else is called {name}; give NAME=PATH with another name")
        named.append(("--cloaked", text, path, "cloaked" if name == STDIN else name))
    given: list[tuple[str, str | None]] = [(path, name) for *_, path, name in named if _holds_records(path)]
    places = [(f"{o} {text}", _pattern(path), name) for o, text, path, name in named if not _holds_records(path)]
    rest = None if bool(clean) == bool(cloaked) else CLEAN if cloaked else "cloaked"
    if not files and (places or not given):
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("no input: name files of records, or pipe what `facetools detect` writes")
        files = [STDIN]
    given = [*((path, None) for path in files), *given]
    if [path for path, _ in given].count(STDIN) > 1:
        raise UsageError("- can be given once: stdin is read once")
    return Truth(given, places, rest, bool(named))


def _holds_records(path: str) -> bool:
    """Test whether a path is a file of records, and not a place of photos, which need not be on this machine."""
    return path == STDIN or Path(path).suffix in _RECORDS or (Path(path).is_file() and Path(path).suffix != ".tar")


def _pattern(place: str) -> re.Pattern[str]:
    place = os.path.normpath(place)
    if place == ".":  # every relative path
        return re.compile(r"(?!/|\.\./).*", re.DOTALL)
    if not glob.has_magic(place) or Path(place).exists():
        place = glob.escape(place)
    return re.compile(f"{fnmatch.translate(place)}|{fnmatch.translate(place + '/*')}")
