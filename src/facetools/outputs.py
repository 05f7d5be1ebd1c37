"""Write a folder of photos: names mirror the inputs', nothing is overwritten, runs can be resumed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from _toolio.errors import InputError, ToolError, param
from _toolio.files.atomic import atomic_write_bytes
from _toolio.files.hashing import sha256_of
from _toolio.files.journal import Journal
from _toolio.streams.inputs import Item
from _toolio.streams.records import Record, RecordWriter, error_fields
from _toolio.version import tool_version
from _toolio.words import many
from facetools.intake import Intake, input_digest
from facetools.workers.photos import Processed

_NAME_ERRORS = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR}
"""Errors of one output's name, not of the folder."""


class PhotoFolder:
    """The output folder of one run.

    Parameters
    ----------
    folder
        Made if it is missing.
    name
        The command, for the journal's name.
    arguments
        What the outputs depend on besides the inputs and the tool's version.
    resume, force
        As ``Journal`` and ``write`` take them: go on from what is there; replace files that exist.

    Raises
    ------
    UsageError
        ``resume`` and the folder was made with other arguments.
    ToolError
        The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        arguments: Mapping[str, Any],
        *,
        resume: bool,
        force: bool,
    ) -> None:
        self.folder, self._force, self._resume = folder, force, resume
        # Another version may find other faces and cloak them otherwise.
        self._journal = Journal(folder, name, {"version": tool_version(), **arguments}, resume=resume)
        self._written: set[Path] = set()
        self._real = Path(os.path.realpath(folder))
        # While it is open its number is given to no other folder. Windows opens none.
        directory = getattr(os, "O_DIRECTORY", None)
        self._stream = None
        if directory is not None:
            self._stream = os.open(self._real, getattr(os, "O_PATH", os.O_RDONLY) | directory)
        self._began = self._real.stat()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *problem: object) -> None:
        try:
            if kind is None:
                self._check_all_there()
        finally:
            self._journal.__exit__(kind, *problem)
            if self._stream is not None:
                os.close(self._stream)

    def _check_there(self) -> None:
        """Raise if the folder is no longer the one that this run began with."""
        try:
            same = os.path.samestat(self._began, self.folder.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise ToolError(
                f"{self.folder}: was removed or replaced while it was written to; run again for what was in it",
                kind="vanished",
            )

    def _check_all_there(self) -> None:
        """Raise if anything that records name is gone: removed, or with a folder that was."""
        self._check_there()
        gone = [path for path in sorted(self._written) if not os.path.lexists(path)]
        if self._journal.is_gone():
            gone.append(self._journal.path)
        if gone:
            raise ToolError(
                f"{gone[0]}: was removed while this run wrote to its folder ({many(len(gone), 'file')} in all);"
                f" {param('resume')} makes again what is not there",
                kind="vanished",
            )

    def finished(
        self, item: Item, named: Sequence[Record], read: Callable[[], bytes], added: Sequence[Record] = ()
    ) -> Sequence[Record] | None:
        """Return the records of an input that an earlier run has finished, with its files where they are now.

        The file is read only if the journal knows of it. Fields that pass through are those of ``item`` and ``named``
        (see ``Intake``), not of the earlier run.
        None for the second of two inputs that go to one file, so that a resumed run reports it as the first did.
        """
        if not self._journal.knows(item.path):
            return None
        digest = input_digest(item, named, read(), added)
        records, outputs = self._journal.finished(item.path, digest), self._journal.outputs(item.path, digest)
        if records is None or (named and len(records) != len(named)):
            return None
        if not all(_names_one_of(outputs, record) for record in records if record.get("path") is not None):
            return None
        paths = [record.get("path") and self.folder / PurePosixPath(record["relative"]) for record in records]
        written = {path for path in paths if path}
        if written & self._written:
            return None
        self._written |= written
        through = named or [item.record] * len(records)
        return [
            {**record, **({"path": path and str(path)} if "path" in record else {}), **_missing_in(record, other)}
            for record, path, other in zip(records, paths, through, strict=True)
        ]

    def write(self, item: Item, relative: str, data: bytes) -> Path:
        """Write one photo.

        Parameters
        ----------
        item
            The input that it was made from.
        relative
            Where it goes, below the folder.
        data
            The file's bytes.

        Returns
        -------
        Path
            The file; whole, under its final name.

        Raises
        ------
        InputError
            It exists (kind ``exists``), this run has written it for another input (``collision``), it
            is the input itself (``input-is-output``), or its name is too long, or leads through a file or a link to
            another folder (``unwritable``).
        ToolError
            It cannot be written, or the folder is gone.
        """
        path = self.folder / PurePosixPath(relative)
        self._check_there()
        try:
            self._check_inside(path)
            replace = self._check(item, path, data)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kind = InputError if error.errno in _NAME_ERRORS else ToolError
            raise kind(
                f"{path}: cannot be written: {error.strerror}; give another {param('out')}", kind="unwritable"
            ) from None
        try:
            atomic_write_bytes(path, data, replace=replace)
        except ToolError as error:
            if error.kind != "exists":
                raise
            raise _exists(path, "was written by another run meanwhile") from None
        self._written.add(path)
        return path

    def _check_inside(self, path: Path) -> None:
        """Refuse a file that a link on its way would put outside the folder."""
        if not Path(os.path.realpath(path.parent)).is_relative_to(self._real):
            raise InputError(
                f"{path}: cannot be written: a link leads out of {self.folder}; remove it, or give another"
                f" {param('out')}",
                kind="unwritable",
            )

    def _check(self, item: Item, path: Path, data: bytes) -> bool:
        """Refuse what would replace something; return whether what is there may be replaced."""
        if path in self._written:
            raise InputError(
                f"{path}: written already for another input of this run; rename one, or give them separate "
                f"{param('out')}",
                kind="collision",
            )
        if path.exists() and Path(item.path).exists() and path.samefile(item.path):
            raise InputError(
                f"{path}: the output would replace its own input; give another {param('out')}",
                kind="input-is-output",
            )
        if path.is_symlink():  # what it leads to is not this folder's, or would be written twice
            raise InputError(
                f"{path}: is a link, and is not written through; remove it, or give another {param('out')}",
                kind="exists",
            )
        if not path.exists():
            return self._force
        if path.is_dir():
            raise InputError(f"{path}: a folder of this name exists; give another {param('out')}", kind="exists")
        # An interruption can come between a file and its line in the journal: the same bytes are no conflict.
        if not self._force and not (self._resume and path.read_bytes() == data):
            if self._resume:
                raise InputError(
                    f"{path}: holds something else; add {param('force')} to {param('resume')} to replace it alone",
                    kind="exists",
                )
            raise _exists(path, f"exists; use {param('resume')} to go on")
        return True

    def keep(self, photo: Processed[Outputs], complete: Callable[[Mapping[str, Any]], Record]) -> list[Record]:
        """Write an input's photos, then note the input as finished; return its records.

        A photo that cannot be written becomes an error record, and its input is not noted as finished. Where records
        named the faces, each of them is answered by one record, in their order.

        Parameters
        ----------
        photo
            The input and what was made of it.
        complete
            Builds a record from its fields: ``RecordWriter.complete``.
        """
        item, written, records, failed = photo.item, dict[Path, str](), list[Record](), False
        for output in photo.made.files:
            failed = failed or output.failed
            path, fields_of = None, output.described
            if fields_of[0].get("face") is None:  # it is about the photo, and so about every face
                fields_of = [*fields_of] * max(1, len(photo.named))
            try:
                if output.data is not None:
                    path = self.write(item, output.relative, output.data)
                    written[path] = sha256_of(output.data)
                described: list[dict[str, Any]] = [{"path": path and str(path), **fields} for fields in fields_of]
            except InputError as error:
                failed = True
                wrong = {"path": None, "source": item.path, **error_fields(error)}
                described = [wrong] * (len(fields_of) if photo.named else 1)
            records += [complete(fields) for fields in described]
        if not failed:
            # Without the fields that pass through: they may be others when the photo is resumed.
            self._journal.add(item.path, photo.made.digest, written, records)
        return records

    def deliver(self, writer: RecordWriter, photo: Processed[Outputs]) -> list[Record]:
        """Write an input's photos as ``keep`` does, and only then print its records; return them."""
        records = self.keep(photo, writer.complete)
        for index, record in enumerate(records):
            writer.emit(record, through=photo.record_of(index))
        return records


def _exists(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; use {param('force')} to replace it", kind="exists")


def _names_one_of(outputs: Collection[str], record: Record) -> bool:
    """Test whether a record's file is one of those that its line of the journal vouches for."""
    path, relative = record["path"], record.get("relative")
    return isinstance(path, str) and isinstance(relative, str) and os.path.normpath(relative) in outputs


def _missing_in(record: Record, other: Record) -> Record:
    return {key: value for key, value in other.items() if key not in record}


@dataclass(frozen=True, slots=True)
class Output:
    """One photo to write.

    Attributes
    ----------
    relative
        Where, below the output folder.
    data
        The file's bytes; None if there is nothing to write.
    failed
        The input could not be used; it is not noted as finished.
    described
        Fields of its records, one or more, without its path. Over an input's outputs they are
        one a face, in the order of its faces, or one without a ``face``, about the photo.
    """

    relative: str
    data: bytes | None
    described: Sequence[Mapping[str, Any]]
    failed: bool = False


class Outputs(NamedTuple):
    """What is written for one input.

    Attributes
    ----------
    digest
        Of what it depends on: `input_digest`.
    files
        The photos to write.
    """

    digest: str
    files: Sequence[Output]


def outputs_of(intake: Intake, files: Iterable[Output]) -> Outputs:
    """Return what is written for a decoded photo."""
    return Outputs(input_digest(intake.item, intake.named, intake.data, intake.added), tuple(files))
