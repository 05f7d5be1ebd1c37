"""Refuse to overwrite inputs or outputs that exist."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from _toolio.errors import UsageError, param
from _toolio.files.checkpoint_names import checkpoint_beside
from _toolio.streams.inputs import STDIN, reason_of


def _is_ours(path: Path, starts: tuple[bytes, ...]) -> bool:
    """Test whether a file is of the kind that is written, or empty; a typing error must not destroy another."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return not start or (start.startswith(starts) if starts else start[8:] == b"{")


def refuse_file(out: Path, named: str = param("out")) -> None:
    """Refuse an output folder whose name is a file's, or that would lie below a file.

    Raises
    ------
    UsageError
        The message calls the folder what it is ``named``: a `param`.
    """
    try:
        there = next((each for each in (out, *out.parents) if each.exists()), None)
    except OSError as error:
        raise UsageError(f"{named} {out}: {reason_of(error)}; name another folder") from None
    if there is None or there.is_dir():
        return
    if there == out:
        raise UsageError(f"{named} {out}: is no folder; name one that is new or empty")
    raise UsageError(f"{named} {out}: {there} is no folder; name one elsewhere")


def refuse_nested(out: Path, inputs: Sequence[str] | None, *, named: str = param("inputs")) -> None:
    """Refuse an output folder inside an input folder: the next run would take its outputs for inputs.

    Parameters
    ----------
    out
        The folder that is written.
    inputs
        What is read; None or empty: nothing that could be nested.
    named
        What the message calls an input: a `param`, or words.

    Raises
    ------
    UsageError
        The message names both.
    """
    for name in inputs or ():
        if name != STDIN and Path(name).is_dir() and out.resolve().is_relative_to(Path(name).resolve()):
            raise UsageError(
                f"{param('out')} {out}: lies in {named} {name}, whose files it would add to; name a folder elsewhere"
            )


def refuse_inside(out: Path, folder: Path, named: str, *, written: str = param("out")) -> None:
    """Refuse an output file that is read, or lies in a folder that is read, through links too.

    Parameters
    ----------
    out
        What is written.
    folder
        What is read: a folder, at any depth, with the files that links in it lead to; or one file. It need not exist.
    named
        What the message calls `folder`: a `param`, or words.
    written
        What it calls `out`.

    Raises
    ------
    UsageError
        The message names both.
    """
    target = Path(os.path.realpath(out))
    if not folder.is_dir():
        if _is_same(target, folder):
            raise UsageError(f"{written} {out}: is what is read as {named}; name another file")
        return
    inside = target.is_relative_to(os.path.realpath(folder))
    if inside or any(_is_same(target, Path(top, name)) for top, _, names in os.walk(folder) for name in names):
        raise UsageError(
            f"{written} {out}: lies in {named} {folder}, whose files it could replace; name a file elsewhere"
        )


def _is_same(target: Path, other: Path) -> bool:
    try:
        return target == Path(os.path.realpath(other)) or target.samefile(other)
    except (OSError, ValueError):  # one of the two does not exist, or cannot
        return False


def checkpoint_of(out: Path, *, resume: bool, force: bool) -> Path:
    """Return the path of the checkpoint of a training that writes ``out``.

    Raises
    ------
    UsageError
        It exists, and neither ``resume`` nor ``force`` is set; or it is no checkpoint.
    """
    checkpoint = checkpoint_beside(out)
    refuse_checkpoint(checkpoint, resume=resume, force=force)
    return checkpoint


def refuse_checkpoint(checkpoint: Path, *, resume: bool, force: bool) -> None:
    """Refuse a checkpoint, or a part of one, that exists, as `checkpoint_of` does."""
    refuse_link(checkpoint)
    if checkpoint.exists() and not (resume or force):
        raise UsageError(
            f"{checkpoint}: exists; use {param('resume')} to go on from it, or {param('force')} to start again"
        )
    if checkpoint.exists() and not (checkpoint.is_file() and _is_ours(checkpoint, ())):
        raise UsageError(
            f"{checkpoint}: is no checkpoint, and would be replaced; move it, or name another {param('out')}"
        )


def refuse_link(path: Path) -> None:
    """Refuse a name that follows from an output's if it is a link, which leads where nobody asked to write.

    Raises
    ------
    UsageError
        The message says what to do.
    """
    if path.is_symlink():
        raise UsageError(f"{path}: is a link, and is not written through; remove it")


def refuse_existing(
    path: Path,
    *,
    force: bool,
    named: str = param("out"),
    kind: str = "safetensors file",
    starts: tuple[bytes, ...] = (),
) -> None:
    """Refuse a file that exists or cannot be written, before any work is done for it.

    Parameters
    ----------
    path, named
        The file, and what the message calls it: a `param`.
    force
        It may be replaced.
    kind, starts
        What ``force`` may replace, and how a file of that kind begins. Without: safetensors files.

    Raises
    ------
    UsageError
        The message says what to try.
    """
    try:
        # The file that is written is the one that a link leads to.
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        if path.is_dir():
            raise UsageError(f"{named} {path}: is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise UsageError(f"{named} {path}: is no regular file; name one that can be replaced")
        if path.exists() and not force:
            raise UsageError(f"{named} {path}: exists; use {param('force')} to replace it")
        if path.exists() and not _is_ours(path, starts):
            raise UsageError(f"{named} {path}: is no {kind}, and {param('force')} replaces no other; name another file")
        if not folder.is_dir():
            raise UsageError(f"{named} {path}: {folder} is no folder; make it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{named} {path}: {folder} may not be written to; name a file elsewhere")
    except OSError as error:
        raise UsageError(f"{named} {path}: {reason_of(error)}; name another file") from None
