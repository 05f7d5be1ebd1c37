"""Renames that replace nothing, and exchanges of two names: by the system's own call, or by the nearest thing to it.

``renameat2`` does both in one step: Linux 3.15, on ext4, xfs, btrfs, tmpfs and others. Elsewhere (macOS, NFS):

- a file gets a new name by a link and the removal of the old one, which replaces nothing either; where there are no
  links (FAT), by a look and a rename, between which somebody else may write;
- a folder gets a new name by a plain rename, which replaces nothing but an empty folder on any system;
- two names are not exchanged: the caller moves one aside, and for a moment there is none.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_LACKING = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}


@cache
def _renameat2() -> Callable[[Path, Path, int], int] | None:
    """Return the system's call, which returns 0 or an error's number; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:  # an older C library
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def rename(old: Path, new: Path, flags: int) -> int:
        done = call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags)
        return 0 if done == 0 else ctypes.get_errno()

    return rename


def _rename(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags; return False where the system or the file system cannot."""
    call = _renameat2()
    number = errno.ENOSYS if call is None else call(old, new, flags)
    if number in _LACKING:
        return False
    if number:
        raise OSError(number, os.strerror(number), str(old), None, str(new))
    return True


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where that cannot be done, with nothing changed.

    Raises
    ------
    OSError
        One of them is not there, or the folder may not be written to.
    """
    return _rename(one, other, _EXCHANGE)


def rename_new(old: Path, new: Path) -> None:
    """Rename a file or a folder to a name that is free. An empty folder counts as free for a folder.

    Raises
    ------
    FileExistsError
        Something is there.
    OSError
        It cannot be renamed.
    """
    try:
        if old.is_dir():
            old.rename(new)
        elif not _rename(old, new, _NOREPLACE):
            _link_new(old, new)
    except OSError as error:
        if error.errno in _TAKEN and os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        raise


def _link_new(old: Path, new: Path) -> None:
    try:
        new.hardlink_to(old)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        old.rename(new)
    else:
        old.unlink()
