"""The manifest of a folder of embeddings: which parts there are, and what they hold.

It is written last: a folder without one is that of a run that has not ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError, UsageError, param
from _toolio.files.atomic import atomic_write_bytes
from _toolio.files.hashing import sha256_of_files
from _toolio.files.overwriting import refuse_file
from _toolio.json_text import parse_json
from _toolio.streams.inputs import reason_of

SCHEMA = "facetools.embed-parts/1"

_KIND = "facetools.embed-parts/"

NAME = "manifest.json"

_PART = re.compile(r"part-[0-9]{5,}\.safetensors")

_LARGEST = 1 << 26
"""Bytes of a manifest; a part takes 120."""

_SHORT = 1 << 16
"""Bytes of one that lists no part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of embeddings in the folder.

    Attributes
    ----------
    file
        Its name.
    rows
        How many faces it holds.
    sha256
        Of its bytes.
    """

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of embeddings holds.

    Attributes
    ----------
    parts
        Its files, in the order of their rows.
    dimensions
        Of each embedding.
    extractor
        As of `facetools.embeddings.files.Embeddings`.
    """

    parts: Sequence[Part]
    dimensions: int
    extractor: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """How many faces all parts hold."""
        return sum(part.rows for part in self.parts)


def name_of(number: int) -> str:
    """Return the file name of a part, from 0."""
    return f"part-{number:05}.safetensors"


def is_folder_of_parts(name: str | Path) -> bool:
    """Test whether a path is that of a folder of parts, or of one whose manifest lists none."""
    try:
        if (Path(name) / name_of(0)).is_file():
            return True
        with (Path(name) / NAME).open("rb") as stream:
            return f'"{_KIND}'.encode() in stream.read(_SHORT)
    except (OSError, ValueError):  # no name that a folder could have
        return False


def is_part(name: str) -> bool:
    """Test whether a file's name is that of a part."""
    return _PART.fullmatch(name) is not None


def write_manifest(folder: Path, manifest: Manifest, about: Mapping[str, Any]) -> None:
    """Write a folder's manifest, whole or not at all; ``about`` is what made it, as JSON."""
    fields = {**about, "schema": SCHEMA, "rows": manifest.rows, **asdict(manifest)}
    text = json.dumps(fields, sort_keys=True, indent=1, allow_nan=False)
    atomic_write_bytes(folder / NAME, f"{text}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises
    ------
    ToolError
        There is none, or it is damaged or of another kind; the message names it.
    """
    path = folder / NAME
    try:
        with path.open("rb") as stream:
            found = parse_json(stream.read(_LARGEST))
        if not str(found["schema"]).startswith(_KIND):
            raise ValueError
        parts = tuple(Part(str(each["file"]), int(each["rows"]), str(each["sha256"])) for each in found["parts"])
        manifest = Manifest(parts, int(found["dimensions"]), dict(found["extractor"]))
        whole = manifest.rows == found["rows"] and all(_PART.fullmatch(part.file) and part.rows >= 0 for part in parts)
        whole = whole and 0 <= manifest.dimensions < 1 << 31 and manifest.rows <= (1 << 40) * manifest.dimensions
    except FileNotFoundError:
        raise ToolError(
            f"{folder}: parts of embeddings without {NAME}: the run that wrote them has not ended; embed again",
            kind="embeddings",
        ) from None
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}", kind="unreadable") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        whole = False
    if not whole:
        raise ToolError(f"{path}: no whole manifest of embeddings; embed again", kind="embeddings")
    return manifest


def checked_parts(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, Part]]:
    """Yield each part's path when its bytes are those that the manifest names.

    Raises
    ------
    ToolError
        A part is missing, or another than when the manifest was written; the message names it.
    """
    for part in manifest.parts:
        path = folder / part.file
        try:
            digest = sha256_of_files(path)
        except OSError as error:
            raise ToolError(f"{path}: a part that cannot be read: {error.strerror}", kind="missing") from None
        if digest != part.sha256:
            raise ToolError(
                f"{path}: is another file than {NAME} names; put that back, or embed again", kind="embeddings"
            )
        yield path, part


def refuse_folder(folder: Path, *, force: bool) -> None:
    """Refuse an output folder of parts that exists, or could not be written, before any work is done.

    Raises
    ------
    UsageError
        It holds something, and not parts alone that ``force`` lets go; or there is no folder for it.
    """
    try:
        refuse_file(folder)
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        shown = [name for name in names if not name.startswith(".")]
        if others := [name for name in shown if not _is_ours(name)]:
            raise UsageError(f"{param('out')} {folder}: holds {others[0]}, which is no part; name another folder")
        if shown and not force:
            raise UsageError(f"{param('out')} {folder}: holds parts; use {param('force')} to replace them")
        if not folder.exists() and not folder.parent.is_dir():
            raise UsageError(f"{param('out')} {folder}: {folder.parent} is no folder; make it first")
    except OSError as error:
        raise UsageError(f"{param('out')} {folder}: {reason_of(error)}; name another folder") from None


def clear_parts(folder: Path) -> None:
    """Remove the manifest and the parts of an earlier run; the manifest first, as it stands for all of them."""
    try:
        for path in sorted(folder.iterdir(), key=lambda path: path.name != NAME):
            if _is_ours(path.name):
                path.unlink()
    except OSError as error:
        raise ToolError(f"{folder}: {reason_of(error)}", kind="unwritable") from None


def _is_ours(name: str) -> bool:
    return name == NAME or is_part(name)
