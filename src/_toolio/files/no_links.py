"""Opening files that are not links: through one, something elsewhere would be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def open_no_link(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file for a descriptor, mode by the umask where it is created; OSError ``ELOOP`` for a link."""
    if not hasattr(os, "O_NOFOLLOW") and Path(path).is_symlink():  # Windows, where links are rare
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
