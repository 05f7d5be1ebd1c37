"""What the training commands share: records of photos that are not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from _toolio.streams.records import RecordWriter
from facetools.intake_records import hand_on

if TYPE_CHECKING:
    from facetools.intake import Finished, Refusal
    from facetools.training.face_reader import Unused


def report_to(writer: RecordWriter, *, added: str = "") -> Callable[[Refusal | Finished | Unused], None]:
    """Return a function that writes a record of each photo that is not used; ``added`` goes behind the reason."""

    def report(unused: Refusal | Finished | Unused) -> None:
        from facetools.training.face_reader import Unused

        if isinstance(unused, Unused):
            writer.emit({"path": unused.path, "reason": f"{unused.reason}{added}"})
        else:
            hand_on(writer, unused)

    return report
