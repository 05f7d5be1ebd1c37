"""Lines at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _toolio.streams.records import has_failed
from _toolio.words import many


def spread(values: Iterable[float]) -> str:
    """Return the mean of numbers and their range; one alone as it is."""
    each = list(values)
    if len(each) == 1:
        return f"{each[0]:.3f}"
    return f"{sum(each) / len(each):.3f} on average ({min(each):.3f} to {max(each):.3f})" if each else "not measured"


class FaceTally:
    """Numbers of photos, of faces, of photos without a face, and of inputs that failed."""

    def __init__(self) -> None:
        self.faces = self.without = self.failed = 0
        self._photos: set[object] = set()

    def add(self, record: Mapping[str, Any], photo: object) -> None:
        """Count a record of one of a photo's faces, or of the photo."""
        if has_failed(record):
            self.failed += 1
            return
        self._photos.add(photo)
        self.faces += record.get("face") is not None
        self.without += record.get("face") is None

    def line(self, out: Path | None = None, *, what: str = "photo") -> str:
        """Return one line, with what was written."""
        parts = [f"{many(self.faces, 'face')} in {many(len(self._photos) - self.without, what)}"]
        parts += [f"{many(self.without, what)} without a face"] if self.without else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return "; ".join(parts) + (f": {out} is written" if out else "")
