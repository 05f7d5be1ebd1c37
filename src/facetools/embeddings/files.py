"""Read embedding files and the records that name their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.streams.inputs import STDIN
from _toolio.tensors.reader import open_safetensors, read_metadata
from facetools.people import person_of

EMBEDDINGS = "facetools.embed/"


def is_safetensors(name: str) -> bool:
    """Test whether an input is a safetensors file rather than records."""
    # A pipe can be read once, and only records come through one.
    if name == STDIN or not Path(name).is_file():
        return False
    with Path(name).open("rb") as stream:
        return stream.read(9)[8:] == b"{"


class Embeddings:
    """A file of ``facetools embed``."""

    def __init__(self, path: Path) -> None:
        about = read_metadata(path)
        if not str(about.get("schema", "")).startswith(EMBEDDINGS):
            raise ToolError(f"{path}: not a file of embeddings; make one with `facetools embed`", kind="embeddings")
        with open_safetensors(path) as file:
            self.values = np.array(file.tensor("embeddings"), np.float32)
        self.rows: Any = about.get("rows")  # [{...}], and {...}, as is checked below
        self.about: Any = about.get("extractor")
        if wrong := self._wrong():
            raise ToolError(f"{path}: {wrong}; embed anew", kind="embeddings")

    def _wrong(self) -> str | None:
        """Say what is wrong with the file."""
        about, rows = self.about, self.rows
        if not (isinstance(about, dict) and all(isinstance(about.get(key), str) for key in ("name", "sha256"))):
            return "its metadata does not name the extractor"
        if about.get("distance") not in ("cosine", "euclidean"):
            return f"its metadata has distance {about.get('distance')!a}, which is neither cosine nor euclidean"
        people = about.get("people", [])
        if not (isinstance(people, list) and all(isinstance(person, str) for person in people)):
            return "the people in its metadata are no list of names"
        if self.values.ndim != 2 or not self.values.shape[1]:
            return f"its embeddings are of shape {self.values.shape}, and not one row a face"
        if not (isinstance(rows, list) and all(map(_is_row, rows))):
            return "its metadata does not list a path, relative and face for each row"
        if len(rows) != len(self.values):
            return f"{len(self.values)} embeddings, but its metadata names {len(rows)} faces"
        return None


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) and row[key] for key in ("path", "relative"))
        and type(row.get("face")) is int
        and isinstance(row.get("sha256"), str | None)
    )


def read_targets(path: Path) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """Read a file of embeddings: the extractor's sha256, and each person's mean embedding."""
    about = read_metadata(path)
    if not str(about.get("schema", "")).startswith("facetools.embed/"):
        raise ToolError(f"{path}: not a file of embeddings; make one with `facetools embed`", kind="targets")
    with open_safetensors(path) as file:
        embeddings = np.array(file.tensor("embeddings"), np.float32)
    try:
        names = [person_of(row["relative"]) for row in about["rows"]]
        digest = str(about["extractor"]["sha256"])
    except (KeyError, TypeError) as error:
        raise ToolError(f"{path}: its metadata lacks {error}; embed the photos anew", kind="targets") from None
    if len(names) != len(embeddings) or not np.isfinite(embeddings).all():
        raise ToolError(f"{path}: its embeddings do not fit its metadata; embed the photos anew", kind="targets")
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        rows.setdefault(name, []).append(number)
    return digest, {name: embeddings[numbers].mean(0) for name, numbers in rows.items()}
