"""Look up what cloaked photos were made against: perturb's journal, in the folder that it wrote, says it.

A cloak that protects from the network it was made against may protect from no other (arXiv 2106.14851, section 4): a
figure means little to a reader who is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from _toolio.files.journal import journal_name
from _toolio.json_text import parse_json

JOURNAL = journal_name("facetools-perturb")

Origin = Mapping[str, str | None]
"""Names of the extractors that a cloak was made against, each with the sha256 of its weights, None where that is not
known; empty for a copy that is not cloaked."""


def origin_of(path: str, sha256: str) -> dict[str, str | None] | None:
    """Return what a photo was cloaked against.

    Parameters
    ----------
    path
        The photo.
    sha256
        Of its bytes: the journal counts for the file that it was written about, and for no other of that name.

    Returns
    -------
    dict or None
        An `Origin`; None if no journal above the photo knows it.
    """
    for folder in Path(path).absolute().parents:
        journal = folder / JOURNAL
        try:
            state = journal.stat()
            known = _read(journal, state.st_mtime_ns, state.st_size)
        except OSError:  # there is none, or it may not be read
            continue
        if sha256 in known:
            return known[sha256]
    return None


@lru_cache(maxsize=16)
def _read(journal: Path, changed_ns: int, size: int) -> dict[str, dict[str, str | None]]:
    """Return the origins of the photos that a journal knows, by the sha256 of their bytes."""
    del changed_ns, size  # a journal that has grown is read again
    arguments: dict[str, Any] = {}
    known: dict[str, dict[str, str | None]] = {}
    lines = journal.read_bytes().splitlines()
    for text in lines:
        try:
            line = parse_json(text)
            if "arguments" in line:
                arguments[line["made"]] = line["arguments"]
            else:
                origin = _origin(line["records"], arguments[line["made"]])
                if is_origin(origin):
                    known |= dict.fromkeys(line["outputs"].values(), origin)
        except (ValueError, KeyError, TypeError, AttributeError):  # cut short, or of another version
            continue
    return known


def _origin(records: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> dict[str, str | None]:
    if arguments["attack"] == "none":
        return {}
    digests = arguments["extractors"]
    # Of masks that were made before, records have the names of the ensemble that these were made against.
    return {name: digests.get(name) for record in records for name in record.get("extractors", [])}


def merged(origins: Iterable[Origin | None]) -> dict[str, str | None] | None:
    """Return what all of some photos together were made against; None if that of one is not known."""
    found: dict[str, str | None] = {}
    for origin in origins:
        if origin is None:
            return None
        found |= origin
    return dict(sorted(found.items()))


def is_white_box(origins: Iterable[Origin | None], extractors: Sequence[tuple[str, str]]) -> bool | None:
    """Test whether any cloak is measured with a network that it was made against.

    Parameters
    ----------
    origins
        What each was made against, None where that is not known.
    extractors
        Name and sha256 of each network that they are measured with.

    Returns
    -------
    bool or None
        None where none is known to be, and of some it is not known.
    """
    unknown = False
    for origin in origins:
        if origin is None:
            unknown = True
        elif any(digest in origin.values() or (name in origin and origin[name] is None) for name, digest in extractors):
            return True
    return None if unknown else False


def is_origin(value: object) -> bool:
    """Test whether a value read from a file has the form of an `Origin`."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(digest, str | None) for name, digest in value.items()
    )
