"""Follow the links in an archive that lead to its own files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tarfile import TarInfo


def files_of(archive: Iterable[TarInfo]) -> dict[str, TarInfo]:
    """Return the files of a tar by their names, those that links give them included.

    A symbolic link is another name of a file as it is in a folder. One that leads to a folder, outside the archive,
    to nothing or in a circle is left out, as is what is no file.
    """
    members = list(archive)
    # A second name of a file that is there already is a hard link, and tar writes it as one.
    files = {member.name: member for member in members if member.isreg() or member.islnk()}
    by_place = {posixpath.normpath(member.name): member for member in members}
    for member in members:
        if member.issym() and (found := _behind(member, by_place)) is not None:
            files[member.name] = found
    return files


def _behind(link: TarInfo, by_place: dict[str, TarInfo]) -> TarInfo | None:
    """Return the file that a link leads to, over other links too."""
    seen = set[str]()
    found: TarInfo | None = link
    while found is not None and found.issym() and found.name not in seen:
        seen.add(found.name)
        # An absolute target leads out of the archive, as does one above its top: neither is the name of a member.
        target = posixpath.join(posixpath.dirname(posixpath.normpath(found.name)), found.linkname)
        found = by_place.get(posixpath.normpath(target))
    return found if found is not None and (found.isreg() or found.islnk()) else None
