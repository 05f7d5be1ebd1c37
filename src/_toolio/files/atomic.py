"""Atomic writes: files and folders are written beside their final name, then renamed onto it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from _toolio.errors import ToolError

# Failures of the disk. Any other OSError in the caller's block may be about another file.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_serial = count()


def _cannot_write(final: Path, error: OSError) -> ToolError:
    return ToolError(f"{final}: cannot be written: {error.strerror or error}", kind="unwritable")


def _real_target(final: Path) -> Path:
    """Follow links, and refuse what a rename would destroy: a folder, a device, a pipe."""
    target = Path(os.path.realpath(final))
    if target.is_dir():
        raise ToolError(f"{final}: cannot be written: it is a folder, name a file", kind="unwritable")
    if target.exists() and not target.is_file():
        raise ToolError(f"{final}: cannot be written: it is not a regular file", kind="unwritable")
    if not target.parent.is_dir():
        raise ToolError(f"{final}: cannot be written: the folder {target.parent} does not exist", kind="unwritable")
    return target


def _create_beside(target: Path) -> Path:
    """Create an empty file in the same folder (a rename must not cross file systems), mode by the umask."""
    while True:
        # A name of 255 bytes is legal for the target; the head of it is enough here.
        temp = target.with_name(f".{target.name[:40]}.{os.getpid()}.{next(_serial)}.tmp")
        with suppress(FileExistsError):
            os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return temp


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file to write; rename it to `final` if the block ends well, remove it if not.

    Parameters
    ----------
    final
        Where the file shall be. Its folder must exist. A link is followed; what it names is replaced.

    Yields
    ------
    Path
        An empty file in the folder of `final`, created with the permissions that the umask leaves.

    Raises
    ------
    ToolError
        Kind ``"unwritable"``: no such folder, no permission, no space, or `final` is a folder or a device.
    """
    final = Path(final)
    try:
        target = _real_target(final)
        temp = _create_beside(target)
    except OSError as error:
        raise _cannot_write(final, error) from error
    try:
        yield temp
        try:
            temp.replace(target)
        except OSError as error:
            raise _cannot_write(final, error) from error
    except BaseException as error:  # an interrupt, too, must leave nothing behind
        with suppress(OSError):
            temp.unlink()
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise _cannot_write(final, error) from error
        raise


def atomic_write_bytes(final: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `final`, whole or not at all. Raises as `atomic_path` does."""
    with atomic_path(final) as temp:
        temp.write_bytes(data)


@contextmanager
def atomic_folder(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `final` if the block ends well, remove it if not.

    A folder that is at `final` already is moved aside, and removed when the new one is in its place: for a moment
    there is none, and never a mixture. The caller has made sure that it holds nothing but what may go.

    Parameters
    ----------
    final
        Where the folder shall be. Folders above it are made. A link is followed; what it names is replaced.

    Yields
    ------
    Path
        An empty folder beside `final`, created with the permissions that the umask leaves.

    Raises
    ------
    ToolError
        Kind ``"unwritable"``: no permission, no space, or `final` is no folder.
    """
    final = Path(final)
    try:
        target = Path(os.path.realpath(final))
        target.parent.mkdir(parents=True, exist_ok=True)
        temp, old = (target.with_name(f".{target.name[:40]}.{os.getpid()}.{next(_serial)}.tmp") for _ in range(2))
        temp.mkdir()
    except OSError as error:
        raise _cannot_write(final, error) from error
    try:
        yield temp
        try:
            if target.exists():
                target.rename(old)
            try:
                temp.rename(target)
            except BaseException:
                if old.exists():
                    old.rename(target)
                raise
        except OSError as error:
            raise _cannot_write(final, error) from error
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:  # an interrupt, too, must leave nothing behind
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise _cannot_write(final, error) from error
        raise
