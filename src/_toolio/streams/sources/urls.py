"""List what lies at URLs: files, folders, and tars that are read once from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from _toolio.errors import InputError
from _toolio.streams.items import AtUrl, Item, inside, is_hidden
from _toolio.streams.remote import about, ending, names_in, place_of, shown
from _toolio.streams.remote_tars import divided, stream_tar


def items_of_url(url: str, wanted: Callable[[str], bool]) -> Iterator[Item]:
    """Yield the files that a URL names, or what is wrong with it.

    Parameters
    ----------
    url
        A file; a folder, whose name may end in a slash, and over HTTP has to; a ``.tar``.
    wanted
        Tells by its name whether a member's bytes will be read; others are not kept.
    """
    try:
        if ending(url) == ".tar":
            yield from _items_of_tar(url, wanted)
        elif is_folder(url):
            yield from _items_below(url.partition("?")[0].rstrip("/"), "")
        else:
            yield Item(shown(url), _name_of(url), source=AtUrl(url))
    except InputError as error:
        yield Item(shown(url), _name_of(url), error=error)


def is_folder(url: str) -> bool:
    """Test whether a URL is that of a folder; raise `InputError` where it is neither folder nor file."""
    if shown(url).endswith("/"):
        return True
    # A web server has pages and no folders, and a member of a tar is a file: nothing is asked.
    if url.lower().startswith(("http://", "https://")) or divided(url)[1]:
        return False
    return bool(about(url)["type"] == "directory")


def _name_of(url: str) -> str:
    return inside(place_of(url).rstrip("/").rpartition("/")[2])


def _items_below(top: str, relative: str) -> Iterator[Item]:
    """Walk a folder in sorted order of whole relative paths; ``relative`` is its place below the top."""
    try:
        names = names_in(f"{top}/{relative}")
    except InputError as error:
        yield Item(shown(f"{top}/{relative}"), inside(relative), error=error)
        return
    below = len(place_of(top)) + 1
    for name in names:
        path = f"{top}/{relative}{name}"
        if name.startswith("."):
            continue
        if name.endswith("/"):
            yield from _items_below(top, relative + name)
        else:
            yield Item(shown(path), inside(place_of(path)[below:]), source=AtUrl(path))


def _items_of_tar(url: str, wanted: Callable[[str], bool]) -> Iterator[Item]:
    """Yield the files of a tar as they lie in it, and behind them what is wrong with it."""
    top = shown(url)
    for name, place in stream_tar(url, lambda name: not is_hidden(name) and wanted(inside(name))):
        if not name:
            yield Item(top, _name_of(url), error=place if isinstance(place, InputError) else None)
        elif not is_hidden(name):
            path = f"{top}/{name}"
            if isinstance(place, InputError):
                yield Item(path, inside(name), error=place)
            else:
                yield Item(path, inside(name), source=place)
