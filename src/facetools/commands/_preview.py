"""What the contact sheet of ``facetools perturb`` shows of an input."""

from __future__ import annotations

from collections.abc import Sequence

from _toolio.streams.inputs import read_input
from _toolio.streams.records import Record
from facetools.cloaking.session import Cloaked
from facetools.intake import Finished, Refusal
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels


def pixels_of(each: Cloaked | Refusal | Finished, records: Sequence[Record]) -> Pixels:
    """Return the photo that was written, or the input where none was: no clean face is shown of a cloaked photo."""
    first = records[0]
    written = first.get("path") if isinstance(each, Cloaked | Finished) else None
    if written is None and isinstance(each, Cloaked):
        return each.intake.photo.pixels
    path = written or first.get("source") or first.get("path") or ""
    return decode_photo(read_input(path), path).pixels
