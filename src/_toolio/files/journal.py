"""Journal of finished inputs in an output folder, so that a later run can resume.

The journal is a hidden JSONL file in the folder that is only ever appended to, so that runs which write
different photos into one folder (make -j, say) keep one journal. A line with ``arguments`` names a set of
arguments by its digest; each other line is one finished input: its path, its digest, the digest of the
arguments, the outputs written with their sha256 and the records about them. What an input's digest
covers, the command decides. A line that an interruption cut short is passed over.

Only a run that resumes reads the journal: runs of one photo each (make again) would otherwise read all lines for
every photo, and so lines with ``arguments`` may come more than once.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Self

from _toolio.errors import ToolError, UsageError, param
from _toolio.files.hashing import sha256_of, sha256_of_files
from _toolio.files.no_links import open_no_link
from _toolio.json_text import parse_json
from _toolio.streams.records import Record, dump_record

_LONGEST_HEAD = 1 << 20
"""Bytes of the line with arguments, at most."""


def journal_name(command: str) -> str:
    """Return the name of a command's journal in its output folder."""
    return f".{command}.jsonl"


def first_arguments(folder: Path, command: str) -> Mapping[str, Any]:
    """Return the arguments of the run that began a command's journal in a folder; empty where that is not known.

    Only the first line is read: a run of one photo must not read all of them.
    """
    path = folder / journal_name(command)
    try:
        with path.open("rb") as stream:
            arguments = parse_json(stream.readline(_LONGEST_HEAD))["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


class Journal:
    """The journal of one command in one output folder.

    Parameters
    ----------
    folder
        The output folder; made if it is missing.
    name
        The command: the journal of ``facetools-perturb`` is ``.facetools-perturb.jsonl``.
    arguments
        Everything that the outputs depend on besides the inputs, the tool's version too, as JSON.
    resume
        Take what was made with the same arguments as done.

    Raises
    ------
    UsageError
        ``resume`` and the folder was made with other arguments; the message says which differs.
    ToolError
        The folder cannot be made or written to, or the journal is a link.
    """

    def __init__(self, folder: Path, name: str, arguments: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / journal_name(name)
        made = json.loads(dump_record(dict(arguments)))
        self._digest = sha256_of(json.dumps(made, sort_keys=True).encode())[:16]
        self._done: dict[tuple[str, str], Record] = {}
        self._known: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.is_symlink():
                raise ToolError(f"{self.path}: is a link, and is not written through; remove it", kind="unwritable")
            known = resume and self._take_up(_whole_lines(self.path), made)
        except OSError as error:
            raise ToolError(
                f"{error.filename or folder}: {error.strerror}; give another {param('out')}", kind="unwritable"
            ) from None
        # A run that writes nothing leaves no journal: the file is begun with the first line about an input.
        self._head = b"" if known else dump_record({"made": self._digest, "arguments": made})
        self._stream: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _take_up(self, lines: Sequence[Record], made: Record) -> bool:
        """Load what is done; return whether the arguments are recorded already."""
        before = [line["arguments"] for line in lines if isinstance(line.get("arguments"), dict)]
        if before and made not in before:
            missing = object()
            for key in sorted({*before[-1], *made}):
                if before[-1].get(key, missing) != made.get(key, missing):
                    was, now = json.dumps(before[-1].get(key)), json.dumps(made.get(key))
                    raise UsageError(
                        f"{param('resume')}: {self.path.parent} was made with {key} {was}, not {now};"
                        f" give another {param('out')}"
                    )
        # A later line about the same input is the newer one.
        self._done = {
            (str(line["input"]), str(line["digest"])): line
            for line in lines
            if line.get("made") == self._digest and _is_whole(line)
        }
        self._known = {path for path, _ in self._done}
        return bool(before)

    def is_gone(self) -> bool:
        """Test whether the file that this run has written to is no longer where it was."""
        if self._stream is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._stream.fileno()), self.path.lstat())
        except FileNotFoundError:
            return True

    def knows(self, path: str) -> bool:
        """Test whether an input of this path was done, with whatever digest."""
        return path in self._known

    def finished(self, path: str, digest: str) -> Sequence[Record] | None:
        """Return the records of an input that is done.

        None if it is not, if it has changed, or if an output is gone or is no longer what was written: another
        run may have replaced it.
        """
        line = self._done.get((path, digest))
        if line is None:
            return None
        if not all(_holds(self.path.parent / name, sha256) for name, sha256 in line["outputs"].items()):
            return None
        records: list[Record] = line["records"]
        return records

    def outputs(self, path: str, digest: str) -> frozenset[str]:
        """Return the names, below the folder, of the files that an input that is done was made into."""
        line = self._done.get((path, digest))
        return frozenset(line["outputs"] if line else ())

    def add(self, path: str, digest: str, outputs: Mapping[Path, str], records: Sequence[Record]) -> None:
        """Append an input as done, after its outputs (files, each with its sha256) are in place."""
        names = {os.path.relpath(output, self.path.parent): sha256 for output, sha256 in outputs.items()}
        line = {"input": path, "digest": digest, "made": self._digest, "outputs": names, "records": list(records)}
        try:
            self._append(dump_record(line))
        except OSError as error:
            raise ToolError(f"{self.path}: {error.strerror}; free some space", kind="unwritable") from None

    def _append(self, line: bytes) -> None:
        if self._stream is None:
            # Unbuffered, appending: each line is one write, so that runs side by side do not mix.
            self._stream = FileIO(self.path, "ab", opener=open_no_link)
            line = (b"\n" if _is_torn(self.path) else b"") + self._head + line
        # An unbuffered write returns how much of the line a full disk took, and raises nothing.
        if self._stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_torn(path: Path) -> bool:
    """Test whether the last line lacks its newline, from the last byte alone."""
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _is_whole(line: Record) -> bool:
    """Test whether a line about an input is of the form that ``add`` writes; anybody can write into the folder."""
    records = line.get("records")
    return (
        {"input", "digest"} <= line.keys()
        and isinstance(line.get("outputs"), dict)
        and isinstance(records, list)
        and all(isinstance(record, dict) for record in records)
    )


def _holds(path: Path, sha256: object) -> bool:
    try:
        return sha256_of_files(path) == sha256
    except (OSError, ValueError):  # no such file, or no name that a file could have
        return False


def _whole_lines(path: Path) -> list[Record]:
    """Read the lines that are whole records."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            lines.append(record)
    return lines
