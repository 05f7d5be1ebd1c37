"""Emit the records of inputs that need no work: refused, finished before, or complete already.

Apart from ``intake``, so that a command's help imports neither torch nor Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from _toolio.streams.records import Record, RecordWriter

if TYPE_CHECKING:
    from facetools.intake import Finished, Intake, Refusal


def hand_on(writer: RecordWriter, intake: Refusal | Finished, *, makes_files: bool = False) -> None:
    """Write the records of an input that needs no work.

    That is one that cannot be used, one that an earlier command has completed, and one that an earlier run has
    finished. A command that ``makes_files`` calls the input its source, and no file of
    its own the path.
    """
    from facetools.intake import Finished

    if isinstance(intake, Finished):
        for record in intake.records:
            writer.emit(record)
    elif intake.error is None:
        writer.pass_on(intake.item.record)
    else:
        path = intake.item.path
        about = {"path": None, "source": path} if makes_files else {"path": path}
        writer.fail(intake.error, about, through=intake.item.record)


def without_reason(record: Record) -> Record:
    """Remove an earlier command's reason for having no result."""
    return {key: value for key, value in record.items() if key != "reason"}


def needing_work(
    writer: RecordWriter, intakes: Iterable[Intake | Refusal | Finished], *, makes_files: bool = False
) -> Iterator[Intake]:
    """Write the records of what needs no work as it comes, and yield the rest."""
    from facetools.intake import Intake

    for intake in intakes:
        if isinstance(intake, Intake):
            yield intake
        else:
            hand_on(writer, intake, makes_files=makes_files)
