"""Read files at URLs with fsspec, in one pass where possible; a read that breaks goes on where it stopped.

Nothing here is imported, and no connection made, before a URL is read. Where credentials come from is the business of
fsspec and of the package for the protocol; what they are never reaches a record or a message.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from _toolio.errors import InputError
from _toolio.streams.reading import check_size

T = TypeVar("T")

BLOCK = 8 << 20
"""Bytes that are asked for at once where a server sends parts: as much is read ahead."""

TRIES = 5
"""How often a read is begun again before it is given up, where it has not come further."""

_PAUSE = 0.5
"""Seconds before the second try; doubled for each further one."""

_CONNECTING, _SILENCE = 20, 60
"""Seconds that connecting may take, and that a server may say nothing."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_EMBEDDED = re.compile(r"[a-z][a-z0-9+.-]+://\S*", re.IGNORECASE)
_PIECE = 1 << 20


def is_url(name: str) -> bool:
    """Test whether a name is a URL."""
    return _URL.match(name) is not None


def shown(name: str) -> str:
    """Return a name as records and messages have it: of a URL without user, password, query and fragment."""
    if not is_url(name):
        return name
    try:
        parts = urlsplit(name)
    except ValueError:  # a bracket that is no address
        return name.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(argument: str) -> str:
    """Return a word of a command line with the URL that it is, or ends with, as `shown` has it."""
    found = _URL.search(argument)
    return argument if found is None else argument[: found.start()] + shown(argument[found.start() :])


def place_of(url: str) -> str:
    """Return where a URL's file lies, host or bucket first, as text: over HTTP without the escapes of URLs."""
    place = shown(url).partition("://")[2]
    return unquote(place) if _is_http(url) else place


def ending(name: str) -> str:
    """Return the ending of a file's name in lower case, with its dot; of a URL without its query."""
    return PurePosixPath(shown(name)).suffix.lower()


def read_url(url: str) -> bytes:
    """Read the whole file at a URL.

    Raises
    ------
    InputError
        It is not there, may not be read, is larger than ``MAX_FILE``, or the connection broke too often.
    """
    read = io.BytesIO()
    with RemoteStream(url, once=True) as stream:
        while piece := stream.read(_PIECE):
            read.write(piece)
            check_size(read.tell(), shown(url))
    return read.getvalue()


def read_part(url: str, offset: int, size: int) -> bytes:
    """Read ``size`` bytes of the file at a URL; fewer where it ends. Raises as `read_url`."""
    with RemoteStream(url, offset, block=size) as stream:
        pieces = []
        while size > 0 and (piece := stream.read(size)):
            pieces.append(piece)
            size -= len(piece)
    return b"".join(pieces)


class RemoteStream(io.RawIOBase):
    """The file at a URL as a stream of bytes that also seeks; made for reading on and on.

    Parameters
    ----------
    url
        The file.
    offset
        Where to begin, in bytes.
    block
        Bytes that are asked for at once where the server sends parts, ``BLOCK`` at most.
    once
        All of it will be read: one request, where the protocol has such.
    """

    def __init__(self, url: str, offset: int = 0, *, block: int = BLOCK, once: bool = False) -> None:
        super().__init__()
        self._url, self._place, self._block = url, offset, max(1, min(block, BLOCK))
        self._once, self._sends_parts, self._size = once, True, -1
        self._file: Any = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True; where the server sends no parts, what lies before is read again."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is read yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence)
        place = (self._length() if base is None else base) + offset
        if place != self._place:
            self._drop()
        self._place = place
        return place

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer; return how many, 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = trying(self._url, lambda: self._read(len(view)), self._drop)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        if self._file is None:
            self._open()
        try:
            data: bytes = self._file.read(size)
        except ValueError as error:
            if not self._sends_parts or "range" not in str(error):
                raise
            self._sends_parts = False
            self._drop()
            return self._read(size)
        if not data and self._place < self._size:
            raise ConnectionError("the file ends early")
        self._place += len(data)
        return data

    def _open(self) -> None:
        """Open the file at the place that has been reached."""
        system, path = file_system(self._url)
        if _is_http(self._url) and (not self._sends_parts or (self._once and not self._place)):
            # Without a block it is one answer, and with some size nobody asks for the right one first.
            self._file = system.open(path, block_size=0, size=1)
        else:
            self._file = system.open(path, block_size=self._block, cache_type="readahead")
            size = getattr(self._file, "size", None)
            if isinstance(size, int):
                self._check_same(size)
        try:
            self._file.seek(self._place)
        except ValueError:  # one answer, which is read up to there
            self._pass_over(self._place)

    def _pass_over(self, rest: int) -> None:
        while rest:
            passed = len(self._file.read(min(_PIECE, rest)))
            if not passed:
                raise ConnectionError("the file ends early")
            rest -= passed

    def _check_same(self, size: int) -> None:
        if 0 <= self._size != size:
            raise InputError(f"{shown(self._url)}: it has changed while it was read; run again", kind="changed")
        self._size = size

    def _length(self) -> int:
        if self._size < 0:
            self._size = int(about(self._url)["size"])
        return self._size

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # a connection that is broken already
                file.close()


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the file's path there.

    Raises
    ------
    InputError
        There is no such protocol, or its package is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(
            f"{shown(url)}: URLs are read with fsspec; pip install 'epsilon-tools[remote]'", kind="no-package"
        ) from None
    if "::" in url:
        raise InputError(f"{shown(url)}: one URL inside another is not read; name the file itself", kind="missing")
    try:
        system, path = url_to_fs(url, **_options_of(url))
    except ImportError as error:
        why = _clean(str(error)) or "a package is missing"
        why = f"{why[:1].lower()}{why[1:]}"
        raise InputError(f"{shown(url)}: {why}; see the extra epsilon-tools[remote]", kind="no-package") from None
    except ValueError as error:
        raise InputError(f"{shown(url)}: no URL that can be read ({_clean(str(error))})", kind="missing") from None
    return system, path


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _options_of(url: str) -> dict[str, Any]:
    """Return the options of a protocol's file system: time limits, and bytes as they are stored."""
    if _is_http(url):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=_CONNECTING, sock_read=_SILENCE)
        return {
            "client_kwargs": {"timeout": timeout, "trust_env": True},
            "headers": {"Accept-Encoding": "identity"},
        }
    if url.lower().startswith(("s3://", "s3a://")):
        return {"config_kwargs": {"connect_timeout": _CONNECTING, "read_timeout": _SILENCE}}
    return {}


def about(url: str) -> dict[str, Any]:
    """Return what fsspec says of a file or folder at a URL: ``type``, ``size``. Raises as `read_url`."""

    def ask() -> dict[str, Any]:
        system, path = file_system(url)
        found: dict[str, Any] = system.info(path)
        return found

    return trying(url, ask)


def names_in(url: str) -> list[str]:
    """Return the names in a folder at a URL in sorted order, those of folders with a slash behind them.

    As they are in URLs: percent signs escape there what they escape. Raises as `read_url`.
    """

    def ask() -> list[str]:
        system, path = file_system(url if url.endswith("/") else f"{url}/")
        top = system._strip_protocol(path).rstrip("/")
        entries = system.ls(path, detail=True)
        getattr(system, "dircache", {}).clear()  # it would keep every folder that is walked through
        return sorted(_names(entries, top))

    return trying(url, ask)


def _names(entries: list[dict[str, Any]], top: str) -> Iterator[str]:
    for entry in entries:
        name = str(entry["name"])
        below = name[len(top) :].strip("/") if name.startswith(f"{top}/") else ""
        # Pages that list a folder have links to more than what lies in it.
        if below and not set("/?#") & set(below):
            yield f"{below}/" if entry["type"] == "directory" else below


def trying(url: str, function: Callable[[], T], before: Callable[[], object] = lambda: None) -> T:
    """Call a function that reads from a URL; again, after a pause, where the connection broke.

    Parameters
    ----------
    url
        For messages.
    function
        Reads.
    before
        Called before each further try.

    Raises
    ------
    InputError
        Kind ``missing``, ``forbidden`` or ``no-package`` at once; ``unreachable`` after ``TRIES``.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            return function()
        except InputError:
            raise
        except Exception as error:
            before()
            fault = _fault_of(error, url)
            if fault is not None:
                raise fault from None
            if not left:
                raise InputError(
                    f"{shown(url)}: cannot be read ({_said(error)}), in {TRIES} tries; is it there, and the network?",
                    kind="unreachable",
                ) from None
        time.sleep(_PAUSE * 2 ** (TRIES - 1 - left))
    raise AssertionError


def _fault_of(error: BaseException, url: str) -> InputError | None:
    """Return the error that trying again would not mend; None where it may."""
    causes = list(_causes(error))
    status = next((found for each in causes if (found := _status_of(each)) is not None), None)
    if any(type(each).__name__ in ("NoCredentialsError", "TokenRetrievalError") for each in causes):
        status = 401
    if status in (401, 403) or isinstance(error, PermissionError):
        return InputError(f"{shown(url)}: access denied; are there credentials for it?", kind="forbidden")
    if status in (404, 410) or (isinstance(error, FileNotFoundError) and len(causes) == 1):
        return InputError(f"{shown(url)}: no such file", kind="missing")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{shown(url)}: is a folder", kind="unreadable")
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return InputError(f"{shown(url)}: cannot be read (the server answers {status})", kind="unreadable")
    if isinstance(error, ValueError | TypeError | NotImplementedError | AttributeError):
        return InputError(f"{shown(url)}: cannot be read ({_said(error)})", kind="unreadable")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: fsspec calls whatever failed a file that is not there."""
    while error is not None:
        yield error
        error = error.__cause__


def _status_of(error: BaseException) -> int | None:
    """Return the status that a server answered, from an error of any of the packages."""
    for found in (getattr(error, "status", None), getattr(getattr(error, "response", None), "status_code", None)):
        if isinstance(found, int):
            return found
    return None


def _said(error: BaseException) -> str:
    last = list(_causes(error))[-1]
    return _clean(str(last)) or type(last).__name__


def _clean(text: str) -> str:
    """Return a message in one line without the URLs in it, which hold what signs them."""
    return " ".join(_EMBEDDED.sub("...", text).split()).rstrip(".:")[:200]
