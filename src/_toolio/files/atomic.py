"""Atomic writes: files and folders are written beside their final name, then renamed onto it.

What is renamed onto is decided here and nowhere else. Inside a claim (`_toolio.files.claims`) it is what was there when
the claim began: whatever came meanwhile is left as it is, and the finished output gets a name beside it.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NoReturn

from _toolio.errors import ToolError
from _toolio.files import temporaries
from _toolio.files.claims import Claim, State, claim_of, state_of
from _toolio.files.renames import exchange, rename_new

# Failures of the disk. Any other OSError in the caller's block may be about another file.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}

_finals: dict[Path, Path] = {}
"""Folders that are being written, each with the name that it will have: messages use that."""


def _shown(path: Path) -> Path:
    """Return the name that a user knows a file by: not that of a temporary folder which it is in."""
    for temp, final in _finals.items():
        if path.is_relative_to(temp):
            return final / path.relative_to(temp)
    return path


def _cannot_write(final: Path, error: OSError) -> ToolError:
    advice = "; free some space" if error.errno in _FULL else ""
    return ToolError(f"{_shown(final)}: cannot be written: {error.strerror or error}{advice}", kind="unwritable")


def _real_target(final: Path) -> Path:
    """Follow links, and refuse what a rename would destroy: a folder, a device, a pipe."""
    target = Path(os.path.realpath(final))
    if target.is_dir():
        raise ToolError(f"{final}: cannot be written: it is a folder, name a file", kind="unwritable")
    if target.exists() and not target.is_file():
        raise ToolError(f"{final}: cannot be written: it is not a regular file", kind="unwritable")
    if not target.parent.is_dir():
        folder = _shown(target.parent)
        raise ToolError(f"{_shown(final)}: cannot be written: the folder {folder} does not exist", kind="unwritable")
    return target


@contextmanager
def atomic_path(final: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary file to write; rename it to `final` if the block ends well, remove it if not.

    Parameters
    ----------
    final
        Where the file shall be. Its folder must exist. A link is followed; what it names is replaced.
    replace
        Whether to replace what is there at the end, outside a claim.

    Yields
    ------
    Path
        An empty file in the folder of `final`, created with the permissions that the umask leaves.

    Raises
    ------
    ToolError
        Kind ``"unwritable"``: no such folder, no permission, no space, or `final` is a folder or a device. Kind
        ``"exists"``: something is there that may not be replaced, and is left as it is.
    """
    yield from _written(Path(final), _real_target, temporaries.create_beside, replace=replace)


def atomic_write_bytes(final: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> None:
    """Write `data` to `final`, whole or not at all. Parameters and errors are those of `atomic_path`."""
    with atomic_path(final, replace=replace) as temp:
        temp.write_bytes(data)


@contextmanager
def atomic_folder(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `final` if the block ends well, remove it if not.

    A folder that is at `final` already is exchanged with the new one, and removed: at every moment there is one or the
    other. Where the system cannot exchange (see `_toolio.files.renames`), it is moved aside first, and a run that is
    killed right then leaves it under its hidden name ``.X....old``; the next claim on `final` puts it back. The caller
    has made sure that it holds nothing but what may go.

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
        Kind ``"unwritable"``: no permission, no space, or `final` is no folder. Kind ``"exists"``, inside a claim:
        something has come there since.
    """
    yield from _written(Path(final), _folder_target, temporaries.make_beside, replace=True)


def _folder_target(final: Path) -> Path:
    target = Path(os.path.realpath(final))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _written(
    final: Path, find: Callable[[Path], Path], make: Callable[[Path], Path], *, replace: bool
) -> Iterator[Path]:
    """Do what files and folders have in common: make, yield, put in place or remove."""
    try:
        target = find(final)
        temp = make(target)
    except OSError as error:
        raise _cannot_write(final, error) from error
    _finals[temp] = _shown(final)
    try:
        yield temp
        try:
            _put(temp, target, final, replace=replace)
        except OSError as error:
            raise _cannot_write(final, error) from error
    except OSError as error:
        if error.errno not in _DISK_ERRORS and not _is_below(error.filename, temp):
            raise
        # A file of a folder is named as it would have been called.
        file = Path(os.fsdecode(error.filename)) if _is_below(error.filename, temp) else final
        raise _cannot_write(file, error) from error
    finally:  # after an interrupt, too, nothing is left behind
        del _finals[temp]
        temporaries.remove(temp)


def _is_below(name: object, temp: Path) -> bool:
    return isinstance(name, str | bytes) and Path(os.fsdecode(name)).is_relative_to(temp)


def _put(temp: Path, target: Path, final: Path, *, replace: bool) -> None:
    """Give what is finished its name."""
    claim = claim_of(target)
    try:
        if claim is None:
            if replace:
                _replace(temp, target)
            else:
                rename_new(temp, target)
        elif claim.before is None:
            rename_new(temp, target)
        else:
            _replace_known(temp, target, claim.before)
    except FileExistsError:
        _refuse(temp, target, final, claim)
    if claim is not None:
        claim.before = state_of(target)


def _replace(temp: Path, target: Path) -> None:
    """Replace whatever is there."""
    if not temp.is_dir():
        temp.replace(target)
    elif not os.path.lexists(target):
        rename_new(temp, target)
    elif not exchange(temp, target):
        _replace_aside(temp, target)


def _replace_known(temp: Path, target: Path, known: State) -> None:
    """Replace what is known to be there, and raise FileExistsError if it is something else."""
    if not os.path.lexists(target):
        rename_new(temp, target)
        return
    if state_of(target) == known:
        if not exchange(temp, target):
            _replace_aside(temp, target)
            return
        if state_of(temp) == known:  # what it was a moment ago
            return
        exchange(temp, target)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def _replace_aside(temp: Path, target: Path) -> None:
    """Replace without an exchange: a file in one step, a folder in two, between which there is none."""
    if not temp.is_dir():
        temp.replace(target)
        return
    old = temporaries.name_beside(target, temporaries.ASIDE)
    target.rename(old)
    try:
        temp.rename(target)
    except BaseException:
        old.rename(target)
        raise
    temporaries.remove(old)


def _refuse(temp: Path, target: Path, final: Path, claim: Claim | None) -> NoReturn:
    """Raise that something is in the way; what a claim has worked for is kept under another name."""
    if claim is None:
        raise ToolError(f"{_shown(final)}: exists", kind="exists") from None
    for number in count(1):
        kept = target.with_name(f"{target.stem}.kept{'' if number == 1 else f'-{number}'}{target.suffix}")
        try:
            rename_new(temp, kept)
        except FileExistsError:
            continue
        named = kept if final.is_symlink() else final.with_name(kept.name)
        raise ToolError(
            f"{final}: somebody else has written it since this run began, and it is left as it is; the result of this"
            f" run is {named}",
            kind="exists",
        ) from None
    raise AssertionError
