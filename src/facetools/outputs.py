"""A folder of photos that a command writes: mirrored names, nothing overwritten, resumable."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from _toolio.atomic import atomic_write_bytes
from _toolio.errors import InputError, ToolError
from _toolio.journal import Journal, sha256_of
from _toolio.paths import Item
from _toolio.records import Record, RecordWriter, error_fields
from facetools.intake import Intake

_NAME_ERRORS = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR}
"""What is wrong with one output's name and not with the folder."""


class PhotoFolder:
    """The output folder of one run.

    Parameters
    ----------
    folder
        Made if it is missing.
    name
        The command, for the journal's name.
    arguments
        What the outputs depend on besides the inputs.
    resume, force
        As the options of these names.

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
        self._journal = Journal(folder, name, arguments, resume=resume)
        self._written: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._journal.__exit__(*problem)

    def finished(self, item: Item, data: bytes) -> Sequence[Record] | None:
        """Give the records of an input that an earlier run has finished, with its files where they are now.

        None for the second of two inputs that go to one file, so that a resumed run says so as the first did.
        """
        records = self._journal.finished(item.path, sha256_of(data))
        if records is None:
            return None
        places = [record.get("path") and self.folder / PurePosixPath(record["relative"]) for record in records]
        written = {place for place in places if place}
        if written & self._written:
            return None
        self._written |= written
        return [
            {**record, "path": place and str(place)} if "path" in record else record
            for record, place in zip(records, places, strict=True)
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
            is the input itself (``input-is-output``), or its name is too long or leads through a file
            (``unwritable``).
        ToolError
            It cannot be written.
        """
        path = self.folder / PurePosixPath(relative)
        try:
            self._check(item, path, data)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kind = InputError if error.errno in _NAME_ERRORS else ToolError
            raise kind(f"{path}: cannot be written: {error.strerror}; give another --out", kind="unwritable") from None
        atomic_write_bytes(path, data)
        self._written.add(path)
        return path

    def _check(self, item: Item, path: Path, data: bytes) -> None:
        """Refuse what would replace something."""
        if path in self._written:
            raise InputError(
                f"{path}: written already for another input of this run; give them separate --out",
                kind="collision",
            )
        if path.exists():
            if Path(item.path).exists() and path.samefile(item.path):
                raise InputError(
                    f"{path}: the output would replace its own input; give another --out",
                    kind="input-is-output",
                )
            # An interruption can come between a file and its line in the journal: the same bytes are no conflict.
            if path.is_dir():
                raise InputError(f"{path}: a folder of this name exists; give another --out", kind="exists")
            if not self._force and not (self._resume and path.read_bytes() == data):
                what = "holds something else" if self._resume else "exists; use --resume to go on"
                raise InputError(f"{path}: {what}; use --force to replace it", kind="exists")

    def deliver(self, writer: RecordWriter, intake: Intake, outputs: Iterable[Output]) -> None:
        """Write an input's photos, note the input as finished, and only then print its records.

        A photo that cannot be written becomes an error record, and its input is not noted as finished.
        """
        item, paths, records, failed = intake.item, [], [], False
        for output in outputs:
            path = None
            try:
                if output.data is not None:
                    path = self.write(item, output.relative, output.data)
                    paths.append(path)
                described = [{writer.rank: None, "path": path and str(path), **fields} for fields in output.described]
            except InputError as error:
                failed = True
                described = [{"path": None, "source": item.path, **error_fields(error)}]
            records += [writer.complete(fields, through=item.record) for fields in described]
        if not failed:
            self._journal.add(item.path, intake.digest, paths, records)
        for record in records:
            writer.emit(record)


@dataclass(frozen=True, slots=True)
class Output:
    """One photo to write.

    Attributes
    ----------
    relative
        Where, below the output folder.
    data
        The file's bytes; None if there is nothing to write.
    described
        Fields of the records that tell of it, without its path.
    """

    relative: str
    data: bytes | None
    described: Sequence[Mapping[str, Any]]
