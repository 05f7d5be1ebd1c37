"""Claims on outputs: one run writes an output, others are told who, and nothing is replaced that came meanwhile.

A claim is a hidden file that names its holder, beside the output (``.X.lock``), or inside a folder that several runs
fill. The holder keeps the file locked (``flock``) and removes it at its end. The system drops the lock of a process
that dies, so that the next run takes the claim over and removes what the dead one left half-written.

What claims cannot see:

- on a disk of several machines, whether the holder on another one has died: the message names the file to remove;
- where a file system has no locks, two runs that start in the same instant. A holder then counts as dead when this
  machine has no process of its number. In another container numbers mean nothing: the message names the file.

In both cases the renames at the end of a run still replace nothing (`_toolio.files.atomic`).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from _toolio.errors import ToolError, param
from _toolio.files import holders, temporaries
from _toolio.files.checkpoint_names import checkpoint_beside, fold_checkpoint
from _toolio.files.hashing import text_digest
from _toolio.files.no_links import open_no_link
from _toolio.files.overwriting import refuse_file

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}

_MOST_FOLDS = 100
"""Checkpoints of folds beside an output that are looked for; nobody has more."""

_TRIES, _PAUSE_S = 300, 0.1
"""How often to look again at a claim that is locked but names nobody who lives: it is being made, or taken over.

That takes an instant, so the bound of half a minute is for file systems that are slow, and for a lock that a copy of a
dead process keeps.
"""

State = Mapping[str, tuple[int, int, int]] | None
"""What is at a name: inode, bytes and time of change in ns of each file by its path below it; None for nothing."""


class BusyError(ToolError):
    """Another run has an output.

    Attributes
    ----------
    sure
        Its holder has the claim locked, so that the system lets go of it when the holder dies. Otherwise the holder is
        on another machine and may have died.
    """

    def __init__(self, message: str, *, sure: bool) -> None:
        super().__init__(message, kind="busy")
        self.sure = sure


@dataclass(slots=True)
class Claim:
    """A claim of this process on an output.

    Attributes
    ----------
    before
        What was there when the claim began and may be replaced; later what this run has put there.
    """

    before: State


_claims: dict[Path, Claim] = {}
_streams: set[int] = set()
"""Descriptors of the locked files."""


def claim_of(target: Path) -> Claim | None:
    """Return this process's claim on an output, named by its real path."""
    return _claims.get(target)


def _forget_streams() -> None:
    """Close the locks in a forked copy of the process: they shall end with the process that has them."""
    for stream in _streams:
        os.close(stream)
    _streams.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_streams)


def state_of(path: Path) -> State:
    """Return what is at a name, so that a later look shows whether it has changed; an empty folder is nothing."""
    if not os.path.lexists(path):
        return None
    if not path.is_dir() or path.is_symlink():
        return {"": _stamp(path)}
    inside = [Path(top) / name for top, folders, names in os.walk(path) for name in (*folders, *names)]
    # A folder's own time and size change with what is in it, which is listed too.
    return {
        str(each.relative_to(path)): (0, 0, 0) if each.is_dir() and not each.is_symlink() else _stamp(each)
        for each in inside
    } or None


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def claimed(out: Path | None, *, replace: bool, named: str = param("out")) -> Iterator[None]:
    """Claim a file or a folder that is written at once at the end, for the length of the block.

    Inside the block `_toolio.files.atomic` puts the output in place of what was there at its beginning, and of nothing
    else. A claim inside a claim of the same process is part of that one.

    Parameters
    ----------
    out
        The output; the folders above a folder are made, and removed again if nothing comes of them. A link is
        followed. None: nothing is written.
    replace
        What is there now may be replaced.
    named
        What messages call the output: a `param`.

    Raises
    ------
    ToolError
        Kind ``"busy"``: another run has it; the message says who. Kind ``"unwritable"``: it cannot be written.
    """
    target = None if out is None else Path(os.path.realpath(out))
    if out is None or target is None or target in _claims:
        yield
        return
    outputs = _with_checkpoints(target, out)
    with _held(claim_file(target), f"{named} {out}") as held:
        _tidy_beside(target, outputs, held.dead)
        held.forget()
        _claims[target] = Claim(state_of(target) if replace else None)
        try:
            yield
        finally:
            del _claims[target]
            # A signal can come while what is half-written is being removed, or right after it was made.
            for left in temporaries.left_beside(outputs, [temporaries.RUN]):
                temporaries.remove(left)


@contextmanager
def claimed_part(folder: Path, command: str, part: object | None) -> Iterator[None]:
    """Claim a part of a folder that several runs of a command may fill, each with files of other names.

    Parameters
    ----------
    folder
        The output folder; made if it is missing, and removed again if nothing is in it when the block fails.
    command
        Whose folder it is, as of `_toolio.files.journal.Journal`.
    part
        What decides the names of the files that are written, as JSON: a second run with the same is refused. None
        where that is not known before they are, as with names on stdin: nobody is refused.

    Raises
    ------
    ToolError
        As of `claimed`; a UsageError if the folder's name is a file's.
    """
    refuse_file(folder)
    text = temporaries.RUN if part is None else json.dumps(part, sort_keys=True)
    key = text_digest(text).hex()[:12]
    lock = folder / f".{command}.{key}.lock"
    with _held(lock, f"{param('out')} {folder}") as held:
        _take_over_parts(held, lock, command)
        _tidy_below(folder, held.dead)
        held.forget()
        try:
            yield
        except BaseException:  # as in `claimed`
            _tidy_below(folder, [temporaries.RUN])
            raise


def claim_file(target: Path) -> Path:
    """Return an output's claim: a file that is there while a run holds it, and after a run that was killed."""
    return target.with_name(f".{_short(target.name)}.lock")


def _short(name: str) -> str:
    """Return a name that leaves room for more; two long ones that begin alike stay two."""
    if len(os.fsencode(name)) <= 200:
        return name
    return temporaries.head_of(name)


def _with_checkpoints(target: Path, out: Path) -> list[Path]:
    """Return an output and what a training writes beside it, under the name that the user gave."""
    checkpoint = checkpoint_beside(Path(os.path.realpath(out.parent), out.name))  # mostly the target's own folder
    return [target, checkpoint, *(fold_checkpoint(checkpoint, number) for number in range(1, _MOST_FOLDS + 1))]


def _tidy_beside(target: Path, outputs: Sequence[Path], runs: Sequence[str]) -> None:
    """Remove what dead runs left beside their output; put back an output that one had moved aside and not replaced."""
    if not runs:
        return
    for aside in temporaries.left_beside([target], runs, temporaries.ASIDE):
        if not os.path.lexists(target):
            aside.rename(target)
        else:
            temporaries.remove(aside)
    for left in temporaries.left_beside(outputs, runs):
        temporaries.remove(left)


def _tidy_below(folder: Path, runs: Sequence[str]) -> None:
    """Remove what dead runs left half-written in a folder, at any depth: one walk for all of them."""
    for top, folders, names in os.walk(folder) if runs else ():
        left = [name for name in (*folders, *names) if temporaries.is_left(name, runs)]
        for name in left:
            temporaries.remove(Path(top, name))
        folders[:] = [name for name in folders if name not in left]


def _take_over_parts(held: _Held, own: Path, command: str) -> None:
    """End the claims of dead runs on other parts of a folder, whose like may never run again; this one lists the runs.

    Whoever starts such a part anew waits while its claim is held here: only until the runs are listed. What they left
    is looked for later, and if this process dies before that, by the next one that has its claim.
    """
    for lock in own.parent.glob(f".{command}.*.lock"):
        with suppress(OSError, ToolError):
            stream, dead = _take(lock, create=False, tries=1)
            try:
                held.list_dead(dead)
            except OSError:
                os.close(stream)
                raise
            _drop(lock, stream)


@dataclass(slots=True)
class _Held:
    """A claim's file that this process has locked, and the dead runs whose remains it has to remove."""

    stream: int
    dead: list[str]

    def list_dead(self, runs: Sequence[str]) -> None:
        """Write down more dead runs."""
        holders.sign(self.stream, [*self.dead, *runs])
        self.dead += runs

    def forget(self) -> None:
        """Write down that nothing of the dead runs remains: nobody shall look for it again."""
        if self.dead:
            self.dead.clear()
            with suppress(OSError):  # the next run looks once more, no more
                holders.sign(self.stream, [])


@contextmanager
def _held(lock: Path, said: str) -> Iterator[_Held]:
    """Hold a claim's file inside the block."""
    made = _make_folders(lock.parent, said)
    failed, owner = True, os.getpid()
    try:
        with _named(said):
            stream, dead = _take(lock)
        _streams.add(stream)
        try:
            with _named(said):
                holders.sign(stream, dead)
            yield _Held(stream, dead)
        finally:
            if os.getpid() == owner:  # not in a forked copy
                _streams.remove(stream)
                _drop(lock, stream)
        failed = False
    finally:
        for folder in made if failed else ():
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _named(said: str) -> Iterator[None]:
    """Raise what goes wrong with a claim as an error of the output."""
    try:
        yield
    except BusyError as error:
        raise BusyError(f"{said}: {error.args[0]}", sure=error.sure) from None
    except ToolError as error:
        raise ToolError(f"{said}: {error.args[0]}", kind=error.kind) from None
    except OSError as error:
        raise _unwritable(said, error) from None


def _make_folders(folder: Path, said: str) -> list[Path]:
    """Make a folder and those above it; return what was made, the lowest first."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(said, error) from None
    return made


def _unwritable(said: str, error: OSError) -> ToolError:
    advice = "name another"
    if error.errno == errno.ELOOP:
        advice = f"remove {error.filename}"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space"
    return ToolError(f"{said}: cannot be written: {error.strerror}; {advice}", kind="unwritable")


def _take(lock: Path, *, create: bool = True, tries: int = _TRIES) -> tuple[int, list[str]]:
    """Open and lock a claim's file; return its descriptor, and the runs that died with it.

    Raises
    ------
    BusyError
        Somebody has it.
    """
    while True:
        stream = _open(lock, create=create)
        try:
            locked, found = _lock(stream), holders.read(stream)
            if locked is False and not holders.lives(found) and (tries := tries - 1) > 0:
                time.sleep(_PAUSE_S)
            elif locked is False or (found and not holders.is_dead(found, locked=bool(locked))):
                raise BusyError(holders.busy(found, lock, sure=locked is False), sure=locked is False)
            elif _is_same(stream, lock):  # its holder may have removed it before it was locked
                kept, stream = stream, -1
                return kept, [str(run) for run in found.get("runs", [])]
        finally:
            if stream >= 0:
                os.close(stream)


def _open(lock: Path, *, create: bool) -> int:
    """Open a claim's file, never through a link, which would write somewhere else; ToolError for another user's."""
    try:
        return open_no_link(lock, os.O_RDWR | (os.O_CREAT if create else 0))
    except PermissionError:
        with suppress(OSError):
            stream = open_no_link(lock, os.O_RDONLY)
            found = holders.read(stream)
            os.close(stream)
            raise BusyError(holders.busy(found, lock, sure=False), sure=False) from None
        raise


def _drop(lock: Path, stream: int) -> None:
    """Remove a claim's file, if it is still this one, and close it."""
    same = False
    try:
        with suppress(OSError):
            same = _is_same(stream, lock)
            if same:
                lock.unlink()
                same = False
    finally:
        os.close(stream)
    if same:  # Windows removes no file that is open
        with suppress(OSError):
            lock.unlink()


def _is_same(stream: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream), lock.lstat())
    except FileNotFoundError:
        return False


def _lock(stream: int) -> bool | None:
    """Lock a file; False if another process has it locked, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        return None
    return True
