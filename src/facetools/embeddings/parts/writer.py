"""Write embeddings as they are made: all rows as one file, or in parts of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.files.hashing import sha256_of_files
from facetools.embeddings.embedder import Embedded, Embedder
from facetools.embeddings.files import write_embeddings
from facetools.embeddings.parts import manifest

if TYPE_CHECKING:
    from facetools.intake import Intake


class EmbeddingWriter:
    """Where the rows of an embedder go; what waits for them is done when they are written.

    Parameters
    ----------
    out
        The file, or the folder of parts.
    embedder
        What embeds.
    about
        What made the file, for its metadata.
    rows_per_part
        Rows of a part at most, but for a photo that has more faces; None: one file of all rows, written at the end.

    Attributes
    ----------
    is_whole
        The one file is there.
    """

    def __init__(self, out: Path, embedder: Embedder, about: Mapping[str, Any], *, rows_per_part: int | None) -> None:
        self._out, self._embedder, self._about, self._most = out, embedder, about, rows_per_part
        self._parts: list[manifest.Part] = []
        self._waiting: list[Callable[[], object]] = []
        self._made: Mapping[str, Any] = {}
        self.is_whole = False
        self._begin()

    def add(self, photo: Intake | Embedded) -> list[dict[str, Any]]:
        """Add a photo's faces, as `Embedder.add` does; a part that they would overfill is written before."""
        if self._most is not None and self._embedder.rows and self._embedder.rows + len(photo.faces) > self._most:
            self._write()
        return self._embedder.add(photo)

    def then(self, action: Callable[[], object]) -> None:
        """Do something once all rows that have been added are written: print their records."""
        self._waiting.append(action)
        # Photos without a face fill no part, and their records wait too.
        if self._most is not None and len(self._waiting) >= _LINES_PER_ROW * self._most:
            self._write()

    def close(self) -> None:
        """Write what is left, and the manifest of parts."""
        self._write()
        if self._most is None:
            return
        kept = {key: value for key, value in self._made.items() if key not in ("rows", "extractor")}
        listed = manifest.Manifest(self._parts, self._embedder.dimensions, self._made["extractor"])
        manifest.write_manifest(self._out, listed, {**self._about, **kept})

    def _begin(self) -> None:
        self._embedder.file = self._out if self._most is None else self._out / manifest.name_of(len(self._parts))

    def _write(self) -> None:
        path = self._embedder.file
        embeddings, self._made = self._embedder.finish()
        if self._most is None or len(embeddings):
            write_embeddings(path, embeddings, {**self._about, **self._made})
        self.is_whole = self._most is None
        if self._most is not None and len(embeddings):
            self._parts.append(manifest.Part(path.name, len(embeddings), sha256_of_files(path)))
        self._begin()
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()


_LINES_PER_ROW = 10
"""A part is written, full or not, when so many records wait for each row that it may have."""
