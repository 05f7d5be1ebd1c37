"""Read files of tar archives where they lie; what can be read of a damaged archive is read."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Sequence
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
        if not self.fault:
            return None
        rest = f"what lies behind its first {many(len(self.files), 'file')} is left out; is it truncated?"
        return InputError(f"{self.path}: not a whole tar archive ({self.fault}); {rest}", kind=BAD_TAR)

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
        try:
            # Members have one stream, and threads read them: each has to seek and read by itself.
            with self._lock:
                stream = self._stream.extractfile(member)
                assert stream is not None  # only regular files are listed
                data = stream.read()
        except MemoryError:
            raise InputError(f"{path}: too little memory for a file of this size", kind="no-memory") from None
        except Exception as error:  # a damaged archive makes its decoder stumble over anything
            raise InputError(f"{path}: cannot be read from the archive ({_said(error)})", kind="unreadable") from None
        if len(data) != member.size:
            raise InputError(f"{path}: the archive ends within it; is it truncated?", kind="unreadable")
        return data


_open: dict[str, Archive] = {}
_opening = Lock()


def open_archive(path: str) -> Archive:
    """Open a tar once a process; its index is kept.

    Raises
    ------
    ToolError
        It cannot be opened, or not even its first member can be read; the message names it.
    """
    with _opening:
        if path not in _open:
            _open[path] = _opened(path)
        return _open[path]


def _opened(path: str) -> Archive:
    import tarfile

    try:
        # tarfile opens by name, and seeks: whether it is a pipe is found out before.
        open_input(path, pipes=False).close()
        stream = tarfile.open(path)  # noqa: SIM115 - kept open for later members
    except ToolError as error:
        raise ToolError(error.message, kind=error.kind) from None
    except Exception as error:  # a damaged archive makes its decoder stumble over anything
        raise _no_archive(path, _said(error)) from None
    members, fault = _members_of(stream)
    if fault and not members:
        raise _no_archive(path, fault)
    return Archive(path, files_of(members), fault, stream)


def _no_archive(path: str, why: str) -> ToolError:
    return ToolError(f"{path}: not a whole tar archive ({why}); is it truncated?", kind=BAD_TAR)


def _said(error: Exception) -> str:
    return (str(error).partition("\n")[0].rstrip(":")) or type(error).__name__


def _members_of(archive: TarFile) -> tuple[list[TarInfo], str]:
    """Return the members of an archive, and why there are no more of them: empty where it is whole."""
    from tarfile import BLOCKSIZE

    members: list[TarInfo] = []
    stream = archive.fileobj
    assert stream is not None
    packed = not isinstance(stream, io.BufferedReader)
    try:
        while (member := archive.next()) is not None:
            if members and member.offset <= members[-1].offset:
                return members, "a member of negative size"  # the same members would come again without end
            members.append(member)
            if packed and member.size > MAX_FILE:
                # All of it would have to be unpacked to find what comes next.
                return members, f"behind a member of {member.size:,} bytes nothing is unpacked"
        # A header that is cut short or damaged ends the list in silence: only zeros may follow the last member.
        stream.seek(archive.offset)
        if stream.read(BLOCKSIZE) not in (b"", bytes(BLOCKSIZE)):
            return members, "damaged behind its first members"
    except Exception as error:  # a damaged archive makes its decoder stumble over anything
        return members, _said(error)
    return members, ""


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
