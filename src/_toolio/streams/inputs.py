"""List inputs: files, folders in sorted order, tars, paths and records on stdin; and shards of them."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run, param, spelled
from _toolio.streams.reading import is_cut, lines_of, read_file, too_long
from _toolio.streams.records import Record, parse_record
from _toolio.streams.tars import BAD_TAR, open_archive, read_member

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes
    ----------
    path
        What records call it: the path as given or found; ``archive.tar/member`` for a file in a tar.
        Bytes that are no UTF-8 are surrogate-escaped.
    relative
        Where it lies below the input that it came from; mirrors a tree. Never absolute, never with ``..``.
    record
        The record that named it, empty if a path did.
    error
        Why it cannot be used, where that is known already.
    """

    path: str
    relative: str
    record: Record = field(default_factory=dict)
    error: InputError | None = None

    def read(self) -> bytes:
        """Read the whole file.

        Raises
        ------
        InputError
            It cannot be read; the message names it.
        """
        if self.error is not None:
            raise self.error
        return read_input(self.path)


@dataclass(slots=True)
class Kind:
    """Files of one kind, told by the endings of their names.

    Attributes
    ----------
    name
        What one is called in messages.
    endings
        In lower case, with their dots.
    left_out
        How many files of other names have been left out so far.
    """

    name: str
    endings: frozenset[str]
    left_out: int = 0

    def has(self, path: str) -> bool:
        """Test whether a file's name is of this kind."""
        return PurePosixPath(path).suffix.lower() in self.endings

    @property
    def note(self) -> str:
        """What to tell people of the files that were left out; "" if there are none."""
        files = "1 file is" if self.left_out == 1 else f"{self.left_out:,} files are"
        named = f"left out, not named as {self.name}s; {param('all_files')} tries them"
        return spelled(f"{files} {named}") if self.left_out else ""


def read_input(path: str) -> bytes:
    """Read a file, or a member of a tar where ``path`` leads through one."""
    try:
        return read_file(path, pipes=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", kind="missing") from None
    except NotADirectoryError:
        return read_member(path)
    except OSError as error:
        raise InputError(f"{path}: {reason_of(error)}", kind="unreadable") from None
    except ValueError:
        raise InputError(f"{path}: a path cannot hold a NUL byte", kind="missing") from None


def reason_of(error: OSError) -> str:
    """Return the system's words for an error, in lower case."""
    text = error.strerror or type(error).__name__
    return text[:1].lower() + text[1:]


def open_items(
    inputs: Sequence[str] | None,
    *,
    null: bool = False,
    shard: tuple[int, int] = (1, 1),
    only: Kind | None = None,
) -> list[Item] | Iterator[Item]:
    """List the items that inputs name.

    Parameters
    ----------
    inputs
        Files, folders (walked in sorted order, hidden files left out), tars, or ``-`` for stdin. None or
        empty: stdin, unless it is a terminal.
    null
        Paths on stdin end in NUL instead of newline.
    shard
        (K, N): the K-th of N runs of items, K from 1; records that follow each other and name one file stay
        together. With N = 1 stdin is read as it comes.
    only
        Leave out files of folders and tars that are not of this kind by name, and count them. What is named outright,
        or on stdin, is always listed.

    Returns
    -------
    list or iterator of Item
        A list where the number of items is known before the first is handled.

    Raises
    ------
    UsageError
        Nothing was named, or ``null`` without ``-``.
    ToolError
        An input does not exist or holds no file, or none of the kind.
    """
    names = list(inputs or ())
    if not names:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(f"no input: give {param('inputs')} with a file, a folder, a .tar or - for stdin")
        names = [STDIN]
    if names.count(STDIN) > 1:
        raise UsageError(f"{param('inputs')} - can be given once")
    if null and STDIN not in names:
        raise UsageError(f"{param('null')} is for paths on stdin; give {param('inputs')} -")
    for name in names:
        if name != STDIN:
            _check_exists(name)
    if names == [STDIN] and shard == (1, 1):
        return _from_stdin(null)
    items = [item for name in names for item in (_from_stdin(null) if name == STDIN else _from_path(name, only))]
    number, total = shard
    start, stop = (_between_files(items, part * len(items) // total) for part in (number - 1, number))
    return items[start:stop]


def list_whole(inputs: Sequence[str], *, only: Kind | None = None) -> list[Item]:
    """List items as `open_items` does, where a part of an archive cannot stand for all of it.

    Raises
    ------
    ToolError
        As of ``open_items``, or an archive is damaged.
    """
    items = list(open_items(inputs, only=only))
    for item in items:
        if item.error is not None and item.error.kind == BAD_TAR:
            raise ToolError(item.error.message, kind=BAD_TAR)
    return items


def _between_files(items: Sequence[Item], place: int) -> int:
    """Move a cut between two shards past the records of one file: two processes would write its one output."""
    while 0 < place < len(items) and items[place].record and items[place].path == items[place - 1].path != "":
        place += 1
    return place


def _check_exists(name: str) -> None:
    if not name or "\0" in name:
        raise UsageError(f"{param('inputs')} is empty")
    try:
        Path(name).stat()
    except FileNotFoundError:
        raise ToolError(f"{name}: no such file or folder", kind="missing") from None
    except NotADirectoryError:
        with of_the_whole_run():
            read_input(name)
    except OSError as error:
        raise ToolError(f"{name}: {reason_of(error)}", kind="unreadable") from None


def _from_path(name: str, only: Kind | None) -> Iterator[Item]:
    path = Path(name)
    if path.is_dir():
        yield from _chosen(name, _walk_below(name, name), only, lambda: f"the folder holds no file{_links_in(name)}")
    elif path.suffix.lower() == ".tar":
        yield from _chosen(name, _of_archive(name.rstrip("/")), only, lambda: "the archive holds no file")
    elif name.lower().endswith(_PACKED):
        raise ToolError(f"{name}: a compressed archive; decompress it to a .tar", kind="packed")
    else:
        yield Item(name, path.name)


def _of_archive(name: str) -> Iterator[Item]:
    """Yield the files of a tar in sorted order, and behind them what is wrong with it."""
    archive = open_archive(name)
    for member in sorted(member for member in archive.files if not _is_hidden(member)):
        yield Item(f"{name}/{member}", _inside(member))
    if archive.error is not None:
        yield Item(name, PurePosixPath(name).name, error=archive.error)


_PACKED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def _chosen(name: str, items: Iterable[Item], only: Kind | None, why_empty: Callable[[], str]) -> Iterator[Item]:
    """Yield items whose name is of a kind, or that say what is wrong; raise if there are none."""
    found, others = False, 0
    for item in items:
        if only is not None and item.error is None and not only.has(item.relative):
            others += 1
            continue
        found = True
        yield item
    if only is not None:
        only.left_out += others
        if others and not found:
            files = f"{others:,} {'file' if others == 1 else 'files'}"
            raise ToolError(
                f"{name}: holds {files}, none with the name of a {only.name}; give {param('all_files')} to try them",
                kind="empty",
            )
    if not found:
        raise ToolError(f"{name}: {why_empty()}", kind="empty")


def _links_in(folder: str) -> str:
    """Return what to say of a folder that seems empty because it holds links to folders."""
    return (
        ", and links to folders are not followed; name those"
        if any(path.is_symlink() for path in Path(folder).iterdir())
        else ""
    )


def _walk_below(folder: str, top: str) -> Iterator[Item]:
    """Walk in sorted order of whole relative paths; a folder that cannot be read is an item with an error."""
    try:
        with os.scandir(folder) as entries:
            # "a/x" sorts between "a.jpg" and "ab": compare folders by the name that their files will have.
            listing = sorted(
                (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries
            )
    except OSError as error:
        message = f"{folder}: {reason_of(error)}; give a folder that you may read"
        if folder == top:
            raise ToolError(message, kind="unreadable") from None
        relative = os.path.relpath(folder, top)
        yield Item(folder, relative, error=InputError(message, kind="unreadable"))
        return
    for name in listing:
        if name.startswith("."):
            continue
        path = os.path.join(folder, name)  # noqa: PTH118 - pathlib folds "./" and so changes what was given
        if name.endswith("/"):
            yield from _walk_below(path.rstrip("/"), top)
        elif Path(path).is_file() or not Path(path).exists():
            # A dangling link is listed too: reading it says what is wrong.
            yield Item(path, os.path.relpath(path, top))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in _inside(name).split("/"))


def _inside(name: str) -> str:
    """Return a path that is relative and free of ``..``, so that nothing is ever written outside the output."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return str(PurePosixPath(*parts)) if parts else "unnamed"


_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8")
"""How pictures begin, which are sometimes piped into stdin in place of their names."""


def _from_stdin(null: bool) -> Iterator[Item]:
    """Read paths or records, one a line; a line that begins with ``{`` is a record."""
    stream: IO[bytes] = sys.stdin.buffer
    for number, line in enumerate(_split(stream, b"\0") if null else lines_of(stream, "stdin"), 1):
        text = line.removesuffix(b"\0" if null else b"\n")
        if not text.strip():
            continue
        if number == 1 and text.startswith(_PICTURES):
            raise UsageError(
                f"stdin holds a picture; it takes paths or records: name the picture with {param('inputs')}"
            )
        if number == 1 and not null and b"\0" in text:
            raise UsageError(
                f"stdin is no text; it takes paths or records: give {param('null')} for paths that end in NUL"
            )
        if number == 1 and not null:
            text = text.removeprefix(codecs.BOM_UTF8)
        if is_cut(line):
            where = f"stdin, line {number}"
            yield Item(where, "unnamed", error=too_long(where))
        elif not null and text.lstrip().startswith(b"{"):
            yield _from_record(text, f"stdin, line {number}")
        else:
            path = os.fsdecode(text if null else text.removesuffix(b"\r"))
            # The whole path, if absolute too: its last name alone would bring many people's 1.jpg together.
            yield Item(path, _inside(path))


def _from_record(line: bytes, where: str) -> Item:
    try:
        record = parse_record(line, where=where)
    except InputError as error:
        return Item(where, "unnamed", error=error)
    path = record.get("path")
    if not isinstance(path, str) or not path:
        if "error" in record or record.get("path", 0) is None:
            return Item("", "unnamed", record)
        return Item(
            where,
            "unnamed",
            record,
            InputError(f"{where}: the record has no path, or one that is no text", kind="bad-record"),
        )
    relative = record.get("relative")
    relative = _inside(relative if isinstance(relative, str) else path)
    if not (_can_name_a_file(path) and _can_name_a_file(relative)):
        message = f"{where}: the record's path or relative holds what no file name can"
        return Item(where, "unnamed", record, InputError(message, kind="bad-record"))
    return Item(path, relative, record)


def _can_name_a_file(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


_MAX_PATH = 1 << 16
"""Bytes of a path; no system has longer ones."""


def _split(stream: IO[bytes], end: bytes, size: int = io.DEFAULT_BUFFER_SIZE) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(size):
        *whole, rest = (rest + block).split(end)
        yield from whole
        if len(rest) > _MAX_PATH:
            raise ToolError("stdin: no paths: one of them has no end; end each in NUL", kind="too-large")
    if rest:
        yield rest


def count(items: Iterable[Item]) -> int | None:
    """Return the number of items if it is known without reading them."""
    return len(items) if isinstance(items, list) else None


def is_empty_folder(path: Path) -> bool:
    """Test whether a folder exists and is empty."""
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError:  # one that may not be read is refused where it is written
        return False
