"""What inputs are: an item that records name, its bytes, and which files are of a kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from _toolio.errors import InputError, param, spelled
from _toolio.streams.reading import read_file
from _toolio.streams.records import Record
from _toolio.streams.remote import is_url, place_of, shown
from _toolio.streams.tars import read_member

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
    source
        Returns its bytes where there is a shorter way to them than by the path, or the path alone does not lead there.
        It can be pickled.
    """

    path: str
    relative: str
    record: Record = field(default_factory=dict)
    error: InputError | None = None
    source: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

    def read(self) -> bytes:
        """Read the whole file.

        Raises
        ------
        InputError
            It cannot be read; the message names it.
        """
        if self.error is not None:
            raise self.error
        return read_input(self.path) if self.source is None else self.source()


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
    """Read a file, or a member of a tar where ``path`` leads through one; from a URL too."""
    if is_url(path):
        from _toolio.streams.remote_tars import read_at_url

        return read_at_url(path)
    try:
        return read_file(path, pipes=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", kind="missing") from None
    except NotADirectoryError:
        return read_member(path)
    except IsADirectoryError:
        advice = f"name it by {param('inputs')} to read what is in it"
        raise InputError(f"{path}: is a directory; {advice}", kind="unreadable") from None
    except OSError as error:
        raise InputError(f"{path}: {reason_of(error)}", kind="unreadable") from None
    except ValueError:
        raise InputError(f"{path}: a path cannot hold a NUL byte", kind="missing") from None


@dataclass(frozen=True, slots=True)
class AtUrl:
    """The file at a URL, or a member of an archive there: called, it reads it. Records have the URL without secrets."""

    url: str

    def __call__(self) -> bytes:
        """Read the file; raise `InputError` where it cannot be read."""
        return read_input(self.url)


def named_item(path: str, relative: str | None = None, record: Record | None = None) -> Item:
    """Return the item of a path, or a URL, that a list names; ``relative`` is where it lies if that is known."""
    record = {} if record is None else record
    if not is_url(path):
        # The whole path, if absolute too: its last name alone would bring many people's 1.jpg together.
        return Item(path, inside(path if relative is None else relative), record)
    record = {**record, "path": shown(path)} if record else record
    place = inside(place_of(path) if relative is None else relative)
    return Item(shown(path), place, record, source=AtUrl(path))


def reason_of(error: OSError) -> str:
    """Return the system's words for an error, in lower case."""
    text = error.strerror or type(error).__name__
    return text[:1].lower() + text[1:]


def is_hidden(name: str) -> bool:
    """Test whether a part of a member's path begins with a dot."""
    return any(part.startswith(".") for part in inside(name).split("/"))


def inside(name: str) -> str:
    """Return a path that is relative and free of ``..``, so that nothing is ever written outside the output."""
    # Not pathlib: it keeps two leading slashes, as POSIX leaves open what they mean.
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")) or "unnamed"


def can_name_a_file(path: str) -> bool:
    """Test whether the system can have a file of this name."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
