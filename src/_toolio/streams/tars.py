"""Read files of tar archives where they lie; what can be read of a damaged archive is read.

`open_archive` keeps an index of an archive, for members that are named one by one. What lists an archive without
keeping what it lists, where that can be done, is `_toolio.streams.sources.archives`.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from _toolio.errors import InputError, ToolError
from _toolio.streams.reading import MAX_FILE, check_size, open_input
from _toolio.words import many

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo


BAD_TAR = "bad-tar"
"""Kind of the error of an archive that is not whole."""


@dataclass(slots=True)
class Archive:
    """An open tar archive.

    Attributes
    ----------
    path
        Its name, for messages.
    files
        What can be named in it: the member that has a file's bytes, None for a hard link that leads to none.
    fault
        Why no more of it could be listed; empty for a whole archive.
    """

    path: str
    files: dict[str, TarInfo | None]
    fault: str
    _stream: TarFile
    _lock: Lock = field(default_factory=Lock)

    @property
    def error(self) -> InputError | None:
        """What is wrong with the archive, if it is not whole."""
        return cut_short(self.path, self.fault, len(self.files))

    def read(self, name: str) -> bytes:
        """Read a file of the archive.

        Raises
        ------
        InputError
            It is not there, damaged or too large; the message names it.
        """
        path = f"{self.path}/{name}"
        if name not in self.files:
            raise InputError(f"{path}: the archive holds no such file", kind="missing")
        member = self.files[name]
        if member is None:
            raise InputError(f"{path}: a link that leads to no file of the archive", kind="missing")
        # A sparse file may claim any size.
        check_size(member.size, path)
        # Members have one stream, and threads read them: each has to seek and read by itself.
        with reading(path), self._lock:
            stream = self._stream.extractfile(member)
            assert stream is not None  # only regular files are listed
            data = stream.read()
        if len(data) != member.size:
            raise InputError(f"{path}: the archive ends within it; is it truncated?", kind="unreadable")
        return data


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Raise whatever a member's bytes make a decoder stumble over as an error of that file."""
    try:
        yield
    except ToolError:
        raise
    except MemoryError:
        raise InputError(f"{path}: too little memory for a file of this size", kind="no-memory") from None
    except Exception as error:
        raise InputError(f"{path}: cannot be read from the archive ({said(error)})", kind="unreadable") from None


_open: dict[str, Archive] = {}
_opening = Lock()
_MOST_OPEN = 16
"""Archives whose index is kept: records of many come archive by archive."""


def open_archive(path: str) -> Archive:
    """Open a tar; its index is kept until many others have been opened since.

    Raises
    ------
    ToolError
        It cannot be opened, or not even its first member can be read; the message names it.
    """
    with _opening:
        archive = _open.pop(path, None) or _opened(path)
        _open[path] = archive  # the last in order is the one that was used last
        if len(_open) > _MOST_OPEN:
            _open.pop(next(iter(_open)))  # closed once no thread reads it
        return archive


def _opened(path: str) -> Archive:
    stream = open_tar(path)
    headers = Headers(stream)
    members = list(headers)
    if headers.fault and not members:
        raise no_archive(path, headers.fault)
    return Archive(path, files_of(members), headers.fault, stream)


def open_tar(path: str) -> TarFile:
    """Open an archive; raise `ToolError` where nothing can be read of it."""
    import tarfile

    try:
        # tarfile opens by name, and seeks: whether it is a pipe is found out before.
        open_input(path, pipes=False).close()
        return tarfile.open(path)
    except ToolError as error:
        raise ToolError(error.message, kind=error.kind) from None
    except Exception as error:  # a damaged archive makes its decoder stumble over anything
        raise no_archive(path, said(error)) from None


def no_archive(path: str, why: str) -> ToolError:
    """Return the error of an archive of which nothing can be read."""
    return ToolError(f"{path}: not a whole tar archive ({why}); is it truncated?", kind=BAD_TAR)


def cut_short(path: str, fault: str, files: int) -> InputError | None:
    """Return the error of an archive of which only the first files can be read; None without a fault."""
    rest = f"what lies behind its first {many(files, 'file')} is left out; is it truncated?"
    return InputError(f"{path}: not a whole tar archive ({fault}); {rest}", kind=BAD_TAR) if fault else None


def said(error: Exception) -> str:
    """Return an error's first line."""
    return (str(error).partition("\n")[0].rstrip(":")) or type(error).__name__


_LARGEST = 2**63 - 1
"""Bytes of a member: what any system can count. A header can claim more."""


class Headers:
    """The members of an open archive, one after the other; none is kept.

    Parameters
    ----------
    archive
        The archive.
    seeks
        It is a file, and no stream: what follows the last member is looked at.

    Attributes
    ----------
    packed
        Whether the archive has to be unpacked, or read as a stream: it cannot seek for free.
    seen
        How many there have been.
    fault
        Why there are no more of them: empty where the archive is whole; known at their end.
    """

    def __init__(self, archive: TarFile, *, seeks: bool = True) -> None:
        self._archive, self._seeks = archive, seeks
        self.packed = not isinstance(archive.fileobj, io.BufferedReader)
        self.seen, self.fault = 0, ""

    def __iter__(self) -> Iterator[TarInfo]:
        """Yield each member; what a damaged archive makes its decoder stumble over ends them, and is the fault."""
        archive, last = self._archive, -1
        while True:
            try:
                member = archive.next()
                archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps them all, to look for the targets of links
            except ToolError:
                raise
            except Exception as error:
                self.fault = said(error)
                return
            if member is None:
                self.fault = self._behind() if self._seeks else ""
                return
            if member.offset <= last or not 0 <= member.size <= _LARGEST:
                # Behind some negative ones the same members would come again without end.
                self.fault = "a member of impossible size"
                return
            self.seen, last = self.seen + 1, member.offset
            yield member
            if self.packed and member.size > MAX_FILE:
                # All of it would have to be unpacked to find what comes next.
                self.fault = f"behind a member of {member.size:,} bytes nothing is unpacked"
                return

    def _behind(self) -> str:
        """Return what is wrong with what follows the last member.

        A header that is cut short or damaged ends the list in silence: only zeros may follow the last member.
        """
        from tarfile import BLOCKSIZE

        stream = self._archive.fileobj
        assert stream is not None
        try:
            stream.seek(self._archive.offset)
            return "" if stream.read(BLOCKSIZE) in (b"", bytes(BLOCKSIZE)) else "damaged behind its first members"
        except Exception as error:
            return said(error)


def files_of(members: Sequence[TarInfo]) -> dict[str, TarInfo | None]:
    """Return the files of a tar by their names, those that links give them included.

    A symbolic link is another name of a file as it is in a folder. One that leads to a folder, outside the archive,
    to nothing or in a circle is left out, as is what is no file. A hard link is a second name of a file that was there
    before it: one that leads to no file is damage, and listed with None.
    """
    by_place: dict[str, TarInfo] = {}
    targets: dict[int, TarInfo | None] = {}
    for member in members:
        if member.islnk():
            targets[id(member)] = by_place.get(posixpath.normpath(member.linkname))
        by_place[posixpath.normpath(member.name)] = member
    files: dict[str, TarInfo | None] = {}
    for member in members:
        found = _behind(member, by_place, targets)
        if found is not None or member.islnk():
            files[member.name] = found
    return files


def _behind(member: TarInfo, by_place: dict[str, TarInfo], targets: dict[int, TarInfo | None]) -> TarInfo | None:
    """Return the regular file that a member is or leads to, over other links too."""
    seen = set[int]()
    found: TarInfo | None = member
    while found is not None and not found.isreg() and id(found) not in seen:
        seen.add(id(found))
        if found.islnk():
            found = targets[id(found)]
        elif found.issym():
            # An absolute target leads out of the archive, as does one above its top: neither is a member's name.
            target = posixpath.join(posixpath.dirname(posixpath.normpath(found.name)), found.linkname)
            found = by_place.get(posixpath.normpath(target))
        else:
            return None
    return found if found is not None and found.isreg() else None


def read_member(path: str) -> bytes:
    """Read a file by a path that leads through an archive.

    Raises
    ------
    InputError
        There is no such archive, or no such file in it, or it cannot be read; the message names it.
    """
    # Where the archive's name ends is read from the text: pathlib folds "./" and "//", which names of members hold.
    for end in (place for place, char in enumerate(path) if char == "/"):
        if Path(path[:end]).is_file():
            try:
                archive = open_archive(path[:end])
            except ToolError as error:
                raise InputError(error.message, kind=error.kind) from None
            return archive.read(path[end + 1 :])
    raise InputError(f"{path}: no such file", kind="missing")
