"""List the files of tar archives in order, without keeping what is listed where that can be done."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from _toolio.errors import InputError
from _toolio.streams.items import Item, inside, is_hidden
from _toolio.streams.reading import check_size
from _toolio.streams.tars import Headers, cut_short, no_archive, open_archive, open_tar, reading

if TYPE_CHECKING:
    from tarfile import TarFile


def items_of_archive(name: str) -> Iterator[Item]:
    """Yield the files of a tar in sorted order, without hidden ones, and behind them what is wrong with it.

    Raises
    ------
    ToolError
        Nothing can be read of it; the message names it.
    """
    files, error = list_files(name)
    for member, source in files:
        if not is_hidden(member):
            yield Item(f"{name}/{member}", inside(member), source=source)
    if error is not None:
        yield Item(name, PurePosixPath(name).name, error=error)


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies in an archive that is not packed: called, it reads it.

    Attributes
    ----------
    archive, name
        The archive, and the file's name in it.
    offset, size
        Of its bytes, in bytes.
    state
        Of the archive when it was listed: what lies there now may be another.
    """

    archive: str
    name: str
    offset: int
    size: int
    state: tuple[int, ...]

    def __call__(self) -> bytes:
        """Read the file.

        Raises
        ------
        InputError
            It is damaged or too large, or the archive is another by now.
        """
        path = f"{self.archive}/{self.name}"
        check_size(self.size, path)
        try:
            with Path(self.archive).open("rb") as stream:
                if _state_of(stream.fileno()) != self.state:
                    raise InputError(f"{path}: the archive has changed since it was listed; run again", kind="changed")
                with reading(path):
                    stream.seek(self.offset)
                    data = stream.read(self.size)
        except OSError as error:
            raise InputError(f"{path}: the archive is gone ({error.strerror})", kind="unreadable") from None
        if len(data) != self.size:
            raise InputError(f"{path}: cannot be read from the archive (unexpected end of data)", kind="unreadable")
        return data


def list_files(path: str) -> tuple[Iterator[tuple[str, Member | None]], InputError | None]:
    """List the files of a tar in the order of their names.

    Its headers are read once to see how it can be listed. Nothing is kept of an archive that lies in that order
    already, as tools that write data sets leave it. Of another the names and places are kept, about 150 bytes a file.
    Of one that is packed, or holds links or sparse files, `open_archive` keeps what it keeps.

    Returns
    -------
    files
        Each one's name, and where it lies; None where `read_member` has to find it.
    error
        What is wrong with the archive, if it is not whole.

    Raises
    ------
    ToolError
        As of `open_archive`.
    """
    with open_tar(path) as archive:
        state, headers = _state_of_archive(archive), Headers(archive)
        files, last, in_order, simple = 0, "", True, not headers.packed
        for member in headers:
            simple = simple and not (member.islnk() or member.issym() or member.issparse())
            if not simple:
                break
            if member.isreg():
                files, last, in_order = files + 1, member.name, in_order and member.name > last
        if headers.fault and not headers.seen:
            raise no_archive(path, headers.fault)
    if not simple:
        kept = open_archive(path)
        return ((name, None) for name in sorted(kept.files)), kept.error
    listed = _regular(path, state)
    if not in_order:
        listed, files = _sorted(listed)
    return listed, cut_short(path, headers.fault, files)


def _regular(path: str, state: tuple[int, ...]) -> Iterator[tuple[str, Member]]:
    """Yield the regular files of an archive as they lie in it."""
    with open_tar(path) as archive:
        for member in Headers(archive):
            if member.isreg():
                yield member.name, Member(path, member.name, member.offset_data, member.size, state)


def _sorted(listed: Iterator[tuple[str, Member]]) -> tuple[Iterator[tuple[str, Member]], int]:
    """Return files in the order of their names, and their number; of several of one name the last."""
    names, places, first = [], array("Q"), None
    for name, member in listed:
        first = first or member
        names.append(name)
        places.extend((member.offset, member.size))
    order = sorted(range(len(names)), key=names.__getitem__)
    kept = [one for one, then in pairwise([*order, -1]) if then < 0 or names[one] != names[then]]

    def in_order() -> Iterator[tuple[str, Member]]:
        for number in kept:
            offset, size = places[2 * number : 2 * number + 2]
            assert first is not None  # there is a name
            yield names[number], replace(first, name=names[number], offset=offset, size=size)

    return in_order(), len(kept)


def _state_of(number: int) -> tuple[int, ...]:
    """Return what changes where an open file is written to, or is another."""
    status = os.fstat(number)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _state_of_archive(archive: TarFile) -> tuple[int, ...]:
    stream = archive.fileobj
    return _state_of(stream.fileno()) if isinstance(stream, io.BufferedReader) else ()
