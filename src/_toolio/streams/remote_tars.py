"""Read tars at URLs once, from beginning to end; what is read ahead is kept within a limit."""

from __future__ import annotations

import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from _toolio.errors import InputError
from _toolio.streams.reading import check_size
from _toolio.streams.remote import RemoteStream, read_part, read_url, shown
from _toolio.streams.tars import BAD_TAR, Headers, cut_short, no_archive, reading, said

READ_AHEAD = 64 << 20
"""Bytes of members that are kept until somebody reads them."""

LARGE = READ_AHEAD // 4
"""A larger member is passed over, and read by its place when somebody wants it."""


class _ReadAhead:
    """Bytes of members that have been read and are yet to be used; the oldest make room for those that come."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._size, self._lock = 0, Lock()

    def put(self, offset: int, data: bytes) -> None:
        """Keep the bytes of the member at a place."""
        with self._lock:
            self._held[offset] = data
            self._size += len(data)
            while self._size > READ_AHEAD:
                self._size -= len(self._held.popitem(last=False)[1])

    def take(self, offset: int) -> bytes | None:
        """Return the bytes of the member at a place, which are kept no longer; None if they are not there."""
        with self._lock:
            data = self._held.pop(offset, None)
            self._size -= len(data or b"")
            return data


@dataclass(frozen=True, slots=True)
class RemoteMember:
    """A file in a tar at a URL: called, it reads it, from what was read ahead, or else by its place.

    Attributes
    ----------
    url, name
        The archive, and the file's name in it.
    offset, size
        Of its bytes, in bytes.
    """

    url: str
    name: str
    offset: int
    size: int
    _ahead: _ReadAhead | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process has to read it by its place."""
        return RemoteMember, (self.url, self.name, self.offset, self.size)

    def __call__(self) -> bytes:
        """Read the file; raise `InputError` where it cannot be read, or is too large."""
        path = f"{shown(self.url)}/{self.name}"
        check_size(self.size, path)
        data = self._ahead.take(self.offset) if self._ahead is not None else None
        if data is None:
            with reading(path):
                data = read_part(self.url, self.offset, self.size)
        if len(data) != self.size:
            raise InputError(f"{path}: the archive ends within it; is it truncated?", kind="unreadable")
        return data


class _Info(tarfile.TarInfo):
    """A header whose fault is kept: of a stream nobody can look afterwards whether zeros followed the last member."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        """Read the next header."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            archive.fault = said(error)  # type: ignore[attr-defined]
            raise


def stream_tar(
    url: str, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, RemoteMember | InputError]]:
    """Yield the files of a tar as they lie in it, and behind them what is wrong with it, with an empty name.

    Links are not followed, as what they lead to has gone by, and sparse files not read: each is an error.

    Parameters
    ----------
    url
        The archive.
    wanted
        Tells by its name whether a member will be read; the bytes of others are not kept.

    Raises
    ------
    InputError
        Nothing of it can be read.
    """
    name, ahead, files = shown(url), _ReadAhead(), 0
    with RemoteStream(url) as stream:
        try:
            archive = tarfile.open(fileobj=stream, mode="r|", tarinfo=_Info, bufsize=_PIECE)  # noqa: SIM115
        except InputError:
            raise
        except Exception as error:  # a damaged archive makes its decoder stumble over anything
            raise InputError(no_archive(name, said(error)).message, kind=BAD_TAR) from None
        headers, fault = Headers(archive, seeks=False), ""
        try:
            for member in headers:
                if member.isreg() or member.islnk() or member.issym():
                    files += 1
                    place = RemoteMember(url, member.name, member.offset_data, member.size, ahead)
                    if not member.isreg() or member.issparse():
                        what = "a sparse file" if member.isreg() else "a link"
                        message = f"{name}/{member.name}: {what}, not read from an archive at a URL; download that"
                        yield member.name, InputError(message, kind="unreadable")
                        continue
                    if member.size <= LARGE and wanted(member.name):
                        _keep(archive, member, ahead)
                    yield member.name, place
            fault = headers.fault or getattr(archive, "fault", "")
        except InputError as error:
            fault = error.message.removeprefix(f"{name}: ")
        if (cut := cut_short(name, fault, files)) is not None:
            yield "", cut


_PIECE = 1 << 16
"""Bytes that are taken at once of what has been read ahead."""


def _keep(archive: tarfile.TarFile, member: tarfile.TarInfo, ahead: _ReadAhead) -> None:
    try:
        stream = archive.extractfile(member)
        assert stream is not None  # a regular file
        ahead.put(member.offset_data, stream.read())
    except InputError:
        raise
    except Exception:  # noqa: S110 - whoever reads the member finds out, and says so of that file
        pass


class _Scan:
    """An archive at a URL that is read as far as somebody has named its members."""

    def __init__(self, url: str) -> None:
        self._members = stream_tar(url)
        self._found: dict[str, RemoteMember | InputError] = {}
        self._url, self._lock = url, Lock()
        self._fault: InputError | None = None

    def read(self, name: str) -> bytes:
        """Read a member; raise `InputError` where there is none, or it cannot be read."""
        with self._lock:
            while name not in self._found:
                self._find_next(name)
            place = self._found[name]
        if isinstance(place, InputError):
            raise place
        return place()

    def _find_next(self, name: str) -> None:
        """Find one more member; raise `InputError` where there is none, and so no ``name`` either."""
        try:
            member, place = next(self._members)
        except StopIteration:
            missing = InputError(f"{shown(self._url)}/{name}: the archive holds no such file", kind="missing")
            raise self._fault or missing from None
        except InputError as error:
            self._fault = error
            raise
        if member:
            self._found[member] = place
        else:
            self._fault = place if isinstance(place, InputError) else None


_scans: OrderedDict[str, _Scan] = OrderedDict()
_scanning = Lock()
_MOST_SCANS = 4


def read_at_url(path: str) -> bytes:
    """Read the file at a URL, or a member of a tar where the URL leads through one.

    Members that are named in the order in which they lie in the archive are read in one pass.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read; the message names it.
    """
    url, member = divided(path)
    if not member:
        return read_url(path)
    with _scanning:
        scan = _scans.pop(url, None) or _Scan(url)
        _scans[url] = scan
        if len(_scans) > _MOST_SCANS:
            _scans.popitem(last=False)
    return scan.read(member)


def divided(path: str) -> tuple[str, str]:
    """Return the URL of a tar that a URL leads through, and the member's name; that is empty where there is no tar."""
    end = path.lower().find(".tar/") + 4
    return (path[:end], path[end + 1 :]) if end > 4 else (path, "")
