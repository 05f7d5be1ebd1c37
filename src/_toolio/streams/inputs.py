"""List inputs: files, folders in sorted order, tars, URLs, lists, paths and records on stdin; and shards of them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import IO, Self

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run, param
from _toolio.streams.current import Whole, noted, whole_of
from _toolio.streams.items import STDIN, AtUrl, Item, Kind, read_input, reason_of
from _toolio.streams.reading import open_input
from _toolio.streams.remote import RemoteStream, ending, file_system, is_url, shown
from _toolio.streams.sources.archives import items_of_archive
from _toolio.streams.sources.folders import links_in, walk_below
from _toolio.streams.sources.lists import PARQUET, is_list, items_of_lines, items_of_parquet
from _toolio.streams.tars import BAD_TAR
from _toolio.words import many

__all__ = ["STDIN", "Item", "Kind", "count", "is_empty_folder", "list_whole", "open_items", "read_input", "reason_of"]

LISTED_AHEAD = 1 << 16
"""Items that are listed before the first is handled: so many can be counted, and shown as a total."""


def open_items(
    inputs: Sequence[str] | None,
    *,
    null: bool = False,
    shard: tuple[int, int] | None = None,
    only: Kind | None = None,
    collections: bool = False,
    urls: bool = False,
) -> list[Item] | Iterator[Item]:
    """List the items that inputs name. Of many, few are in memory at a time.

    Parameters
    ----------
    inputs
        Files, folders (walked in sorted order, hidden files left out), tars, URLs of such, or ``-`` for stdin. None or
        empty: stdin, unless it is a terminal. A tar at a URL is read once, as its members lie in it.
    null
        Paths on stdin end in NUL instead of newline.
    shard
        (K, N): the K-th of N runs of items, K from 1; records that follow each other and name one file stay
        together. With N = 1 stdin is read as it comes. Where all inputs are tars, and at least N, each shard has whole
        ones and opens no other; else each lists everything twice, to count and to pass over. None: all, and
        not what a folder of shards is made of.
    only
        Leave out files of folders and tars that are not of this kind by name, and count them, by the end of the items.
        What is named outright, or on stdin, is always listed.
    collections
        Take a ``.jsonl``, ``.txt`` or ``.parquet`` for a list of paths or records, as on stdin, and read URLs.
    urls
        Read the URLs that a list or stdin names, too. Without, each is an item with an error: who wrote the list may be
        somebody else than who runs the command, and nothing is fetched that the latter did not ask for.

    Returns
    -------
    list or iterator of Item
        A list where the number of items is known before the first is handled.

    Raises
    ------
    UsageError
        Nothing was named, or ``null`` without ``-``.
    ToolError
        An input does not exist or holds no file, or none of the kind. Behind the first ``LISTED_AHEAD`` items, and in
        what is read as it comes, it is raised when the items come to it. What is wrong at a URL is an item with an
        error.
    """
    names = _checked(inputs, null=null, collections=collections)
    listing = _Listing(_dealt(names, shard or (1, 1)), null=null, lists=collections, urls=urls)
    if listing.names != names:
        items, _ = _of_shard(listing, (1, 1), only)
        return noted(items, of=lambda: replace(whole_of(map(shown, names)), count=None))
    items, whole = _of_shard(listing, shard or (1, 1), only)
    return items if shard is None else noted(items, of=whole)


def _of_shard(
    listing: _Listing, shard: tuple[int, int], only: Kind | None
) -> tuple[list[Item] | Iterator[Item], Callable[[], Whole] | None]:
    """Return a shard's items, and what returns what all shards have together, where that is known."""
    number, total = shard
    if total == 1 and listing.streams:
        return listing.items(only), None
    items = listing.again().items(only) if total > 1 else listing.items(only)
    ahead = deque(islice(items, LISTED_AHEAD + 1))
    if len(ahead) <= LISTED_AHEAD:
        found = list(ahead)
        start, stop = (_between_files(found, part * len(found) // total) for part in (number - 1, number))
        return found[start:stop], lambda: whole_of(item.path for item in found)
    if total == 1:
        return chain(_taken(ahead), items), None
    whole = whole_of(item.path for item in chain(_taken(ahead), items))
    size = whole.count or 0
    uncounted = replace(only) if only is not None else None
    start, stop = ((part * size) // total for part in (number - 1, number))
    return _run(listing.items(uncounted), start, stop), lambda: whole


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
    while 0 < place < len(items) and _follows(items[place], items[place - 1]):
        place += 1
    return place


def _follows(item: Item, before: Item | None) -> bool:
    """Test whether an item is a record of the same file as the one before it."""
    return before is not None and bool(item.record) and item.path == before.path != ""


def _run(items: Iterable[Item], start: int, stop: int) -> Iterator[Item]:
    """Yield items ``start`` to ``stop``, both moved past the records of one file, as `_between_files` moves them."""
    before, begun = None, False
    for place, item in enumerate(items):
        inside = _follows(item, before)
        if place >= stop and not inside:
            return
        begun = begun or (place >= start and not inside)
        if begun:
            yield item
        before = item


def _taken(items: deque[Item]) -> Iterator[Item]:
    """Yield items, each of which is not kept."""
    while items:
        yield items.popleft()


def _checked(inputs: Sequence[str] | None, *, null: bool, collections: bool) -> list[str]:
    """Return the names of the inputs, which are there, as far as that can be seen at once."""
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
        if is_url(name):
            _check_url(name, read=collections)
        elif name != STDIN:
            _check_exists(name)
    return names


def _check_url(name: str, *, read: bool) -> None:
    """Refuse a URL where none is read, or whose protocol cannot be; nothing is asked of a server yet."""
    if not read:
        raise ToolError(f"{shown(name)}: URLs are not read here; download it, and name the file", kind="missing")
    with of_the_whole_run():
        file_system(name)


def _dealt(names: list[str], shard: tuple[int, int]) -> list[str]:
    """Return the tars of a shard where all inputs are tars, and enough for each; else all names."""
    number, total = shard
    if total == 1 or len(names) < total or not all(_is_tar(name) for name in names):
        return names
    start, stop = (part * len(names) // total for part in (number - 1, number))
    return names[start:stop]


def _is_tar(name: str) -> bool:
    return ending(name) == ".tar" and (is_url(name) or not Path(name).is_dir())


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


class _Listing:
    """What inputs name, listed anew each time it is asked for; the parameters are those of `open_items`."""

    def __init__(self, names: list[str], *, null: bool, lists: bool, urls: bool) -> None:
        self.names, self._null, self._lists, self._urls = names, null, lists, urls
        self._stdin: IO[bytes] | None = None

    @property
    def streams(self) -> bool:
        """Whether there is an input that is best read as it comes, since listing it is reading it."""
        return any(name == STDIN or is_url(name) or self._is_list(name) for name in self.names)

    def again(self) -> Self:
        """Keep stdin in a file without a name, so that it can be listed twice; refuse a pipe that cannot."""
        import shutil
        from tempfile import SpooledTemporaryFile

        for name in self.names:
            if name == STDIN:
                self._stdin = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the last item
                shutil.copyfileobj(sys.stdin.buffer, self._stdin)
            elif is_url(name) and _is_tar(name):
                raise UsageError(
                    f"{param('shard')}: an archive at a URL is not divided; of {many(len(self.names), 'archive')} make "
                    "as many parts or fewer"
                )
            elif not is_url(name) and Path(name).is_fifo():
                raise UsageError(f"{param('inputs')} {name}: a named pipe can be read once; no {param('shard')} of it")
        return self

    def items(self, only: Kind | None) -> Iterator[Item]:
        """Yield the items of all inputs, one after the other."""
        return chain.from_iterable(self._of(name, only) for name in self.names)

    def _is_list(self, name: str) -> bool:
        return self._lists and is_list(shown(name)) and (is_url(name) or not Path(name).is_dir())

    def _of(self, name: str, only: Kind | None) -> Iterator[Item]:
        if name == STDIN:
            stream = self._stdin or sys.stdin.buffer
            if self._stdin is not None:
                self._stdin.seek(0)
            return self._listed(items_of_lines(stream, "stdin", null=self._null))
        if self._is_list(name):
            return self._listed(_of_list(name))
        return _of_url(name, only) if is_url(name) else _of_path(name, only)

    def _listed(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return what a list names, with an error in place of each URL where they are not to be read."""
        return items if self._urls else map(_refused_if_at_url, items)


def _refused_if_at_url(item: Item) -> Item:
    if not isinstance(item.source, AtUrl) or item.error is not None:
        return item
    message = f"{item.path}: a URL in a list is not read; give {param('urls')} to read those"
    return replace(item, source=None, error=InputError(message, kind="url"))


_IN_MEMORY = 1 << 24
"""Bytes of stdin that are kept in memory where it is listed twice."""


def _of_list(name: str) -> Iterator[Item]:
    with of_the_whole_run(), BufferedReader(RemoteStream(name)) if is_url(name) else open_input(name) as stream:
        read = items_of_parquet if ending(name) == PARQUET else items_of_lines
        yield from read(stream, shown(name))


def _of_url(name: str, only: Kind | None) -> Iterator[Item]:
    from _toolio.streams.sources.urls import items_of_url

    items = items_of_url(name, lambda member: only is None or only.has(member))
    first = list(islice(items, 1))
    if first and first[0].path == shown(name):  # a file that is named outright, or what is wrong with the whole
        return chain(first, items)
    return _chosen(shown(name), chain(first, items), only, lambda: "holds no file")


def _of_path(name: str, only: Kind | None) -> Iterator[Item]:
    path = Path(name)
    if path.is_dir():
        yield from _chosen(name, walk_below(name), only, lambda: f"the folder holds no file{links_in(name)}")
    elif path.suffix.lower() == ".tar":
        yield from _chosen(name, items_of_archive(name.rstrip("/")), only, lambda: "the archive holds no file")
    elif name.lower().endswith(_PACKED):
        raise ToolError(f"{name}: a compressed archive; decompress it to a .tar", kind="packed")
    else:
        yield Item(name, path.name)


_PACKED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def _chosen(name: str, items: Iterable[Item], only: Kind | None, why_empty: Callable[[], str]) -> Iterator[Item]:
    """Yield items whose name is of a kind, or that say what is wrong; raise if there are none."""
    found, others, tars = False, 0, 0
    for item in items:
        if only is not None and item.error is None and not only.has(item.relative):
            others += 1
            tars += item.relative.lower().endswith(".tar")
            continue
        found = True
        yield item
    if only is not None:
        only.left_out += others
        if others and not found:
            try_them = f"give {param('all_files')} to try them"
            advice = "name its .tar files themselves to read what is in them" if tars else try_them
            raise ToolError(
                f"{name}: holds {many(others, 'file')}, none with the name of a {only.name}; {advice}", kind="empty"
            )
    if not found:
        raise ToolError(f"{name}: {why_empty()}", kind="empty")


def count(items: Iterable[Item]) -> int | None:
    """Return the number of items if it is known without reading them."""
    return len(items) if isinstance(items, list) else None


def is_empty_folder(path: Path) -> bool:
    """Test whether a folder exists and is empty."""
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError:  # one that may not be read is refused where it is written
        return False
