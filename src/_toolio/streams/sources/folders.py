"""Walk folders in sorted order of whole relative paths; one folder's names are kept at a time, and those above it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from _toolio.errors import InputError, ToolError
from _toolio.streams.items import Item, reason_of


def links_in(folder: str) -> str:
    """Return what to say of a folder that seems empty because it holds links to folders."""
    return (
        ", and links to folders are not followed; name those"
        if any(path.is_symlink() for path in Path(folder).iterdir())
        else ""
    )


def walk_below(top: str) -> Iterator[Item]:
    """Yield the files below a folder, without hidden ones, in sorted order of whole relative paths.

    Links to files are files, also where they lead nowhere: reading one says what is wrong. Links to folders are not
    followed. A folder that cannot be read is an item with an error.

    Raises
    ------
    ToolError
        The folder itself cannot be read.
    """
    return _walk(top, "")


def _walk(folder: str, relative: str) -> Iterator[Item]:
    """Walk a folder; ``relative`` is its place below the top, with a slash at its end, or empty."""
    try:
        with os.scandir(folder) as entries:
            # "a/x" sorts between "a.jpg" and "ab": compare folders by the name that their files will have.
            names = sorted(filter(None, map(_listed_name, entries)))
    except OSError as error:
        message = f"{folder}: {reason_of(error)}; give a folder that you may read"
        if not relative:
            raise ToolError(message, kind="unreadable") from None
        yield Item(folder, relative.rstrip("/"), error=InputError(message, kind="unreadable"))
        return
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118 - pathlib folds "./" and so changes what was given
        if name.endswith("/"):
            yield from _walk(path.rstrip("/"), relative + name)
        else:
            yield Item(path, relative + name)


def _listed_name(entry: os.DirEntry[str]) -> str:
    """Return the name of a file, that of a folder with a slash behind it, and empty for what is not listed."""
    if entry.name.startswith("."):
        return ""
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/"
    try:
        listed = entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        listed = True
    return entry.name if listed else ""
