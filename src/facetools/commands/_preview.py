"""What the contact sheet of ``facetools perturb`` shows of an input."""

from __future__ import annotations

from collections.abc import Sequence

from _toolio.streams.inputs import read_input
from _toolio.streams.records import Record
from facetools.intake import Refusal
from facetools.outputs import Outputs
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels
from facetools.workers.photos import Result


def pixels_of(each: Result[Outputs], records: Sequence[Record]) -> Pixels:
    """Return the photo that was written, or the input where none was: no clean face is shown of a cloaked photo."""
    first = records[0]
    written = None if isinstance(each, Refusal) else first.get("path")
    path = written or first.get("source") or first.get("path") or ""
    return decode_photo(read_input(path), path).pixels
