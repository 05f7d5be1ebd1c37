"""Build and emit the records of inputs that need no work: refused, finished before, or complete already.

Apart from ``intake``, so that a command's help imports neither torch nor Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from _toolio.streams.records import Record, RecordWriter, error_fields

if TYPE_CHECKING:
    from facetools.intake import Finished, Refusal

P = TypeVar("P")


class Complete(Protocol):
    """Build a record from its fields, as ``RecordWriter.complete`` does."""

    def __call__(self, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> Record:
        """Return the record: ``fields``, then what ``through`` has besides."""


def records_without_work(intake: Refusal | Finished, complete: Complete, *, makes_files: bool = False) -> list[Record]:
    """Return the records of an input that needs no work.

    That is one that cannot be used, one that an earlier command has completed, and one that an earlier run has
    finished. A command that ``makes_files`` calls the input its source, and no file of its own the path.
    """
    from facetools.intake import Finished

    if isinstance(intake, Finished):
        return [complete(record) for record in intake.records]
    if intake.error is None:
        return [intake.item.record]
    path = intake.item.path
    about: Record = {"path": None, "source": path} if makes_files else {"path": path}
    return [complete({**about, **error_fields(intake.error)}, through=intake.item.record)]


def hand_on(writer: RecordWriter, intake: Refusal | Finished, *, makes_files: bool = False) -> list[Record]:
    """Write the records of an input that needs no work, and return them; see ``records_without_work``."""
    from facetools.intake import Refusal

    # A record of an earlier command stays as it is.
    completed = isinstance(intake, Refusal) and intake.error is None
    records = records_without_work(intake, writer.complete, makes_files=makes_files)
    for record in records:
        (writer.pass_on if completed else writer.emit)(record)
    return records


def without_reason(record: Record, *others: str) -> Record:
    """Remove an earlier command's reason for having no result, and ``others`` of the fields that it wrote."""
    return {key: value for key, value in record.items() if key not in ("reason", *others)}


def needing_work(
    writer: RecordWriter, photos: Iterable[P | Refusal | Finished], *, makes_files: bool = False
) -> Iterator[P]:
    """Write the records of what needed no work as it comes, and yield the rest."""
    from facetools.intake import Finished, Refusal

    for photo in photos:
        if isinstance(photo, Refusal | Finished):
            hand_on(writer, photo, makes_files=makes_files)
        else:
            yield photo
