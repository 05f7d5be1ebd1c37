"""What commands have already written into an output folder, so that ``--resume`` can go on from there.

The journal is a hidden JSONL file in the folder that is only ever appended to, so that runs which write
different photos into one folder (make -j, say) keep one journal. A line with ``arguments`` names a set of
arguments by its digest; each other line is one finished input: its path, the sha256 of its bytes, the
digest of the arguments, the outputs written and the records printed. A line that an interruption cut
short is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from _toolio.errors import ToolError, UsageError
from _toolio.records import Record, dump_record


def sha256_of(data: bytes) -> str:
    """Hash the bytes of an input or an output."""
    return hashlib.sha256(data).hexdigest()


class Journal:
    """The journal of one command in one output folder.

    Parameters
    ----------
    folder
        The output folder; made if it is missing.
    name
        The command: ``facetools-perturb`` gives ``.facetools-perturb.jsonl``.
    arguments
        Everything that the outputs depend on besides the inputs, as JSON.
    resume
        Take what was made with the same arguments as done.

    Raises
    ------
    UsageError
        ``resume`` and the folder was made with other arguments; the message says which differs.
    ToolError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, name: str, arguments: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / f".{name}.jsonl"
        made = json.loads(dump_record(dict(arguments)))
        self._digest = sha256_of(json.dumps(made, sort_keys=True).encode())[:16]
        self._done: dict[str, Record] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = _whole_lines(self.path)
            if resume:
                self._take_up(lines, made)
            # Unbuffered, appending: each line is one write, so that runs side by side do not mix.
            self._stream = self.path.open("ab", buffering=0)
            if self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n"):
                self._stream.write(b"\n")
            if not any(line.get("made") == self._digest and "arguments" in line for line in lines):
                self._stream.write(dump_record({"made": self._digest, "arguments": made}))
        except OSError as error:
            raise ToolError(
                f"{error.filename or folder}: {error.strerror}; give another --out", kind="unwritable"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _take_up(self, lines: Sequence[Record], made: Record) -> None:
        before = [line["arguments"] for line in lines if isinstance(line.get("arguments"), dict)]
        if before and made not in before:
            missing = object()
            for key in sorted({*before[-1], *made}):
                if before[-1].get(key, missing) != made.get(key, missing):
                    was, now = json.dumps(before[-1].get(key)), json.dumps(made.get(key))
                    raise UsageError(
                        f"--resume: {self.path.parent} was made with {key} {was}, not {now}; give another --out"
                    )
        # A later line about the same input is the newer one.
        self._done = {
            line["input"]: line
            for line in lines
            if {"input", "sha256", "outputs", "records"} <= line.keys() and line.get("made") == self._digest
        }

    def finished(self, path: str, digest: str) -> Sequence[Record] | None:
        """Give the records of an input that is done, None if it is not (or has changed, or an output is gone)."""
        line = self._done.get(path)
        if line is None or line["sha256"] != digest:
            return None
        if not all((self.path.parent / output).exists() for output in line["outputs"]):
            return None
        records: list[Record] = line["records"]
        return records

    def add(self, path: str, digest: str, outputs: Sequence[Path], records: Sequence[Record]) -> None:
        """Note an input as done, after its outputs are in place."""
        names = [os.path.relpath(output, self.path.parent) for output in outputs]
        line = {"input": path, "sha256": digest, "made": self._digest, "outputs": names, "records": list(records)}
        try:
            self._stream.write(dump_record(line))
        except OSError as error:
            raise ToolError(f"{self.path}: {error.strerror}; free some space", kind="unwritable") from None


def _whole_lines(path: Path) -> list[Record]:
    """Read the lines that are whole records."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            lines.append(record)
    return lines
