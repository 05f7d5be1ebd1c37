"""Files of embeddings as ``facetools embed`` writes them, with made-up rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from _toolio.streams.inputs import Item
from _toolio.tensors.writer import write_safetensors
from facetools.embeddings.matching import Faces
from facetools.embeddings.records import EmbeddedFace

NAMES = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")


def write(
    folder: Path, name: str = "e", *, names: Sequence[str] = NAMES, rows: Any = None, top: str = "in", **changes: Any
) -> Path:
    """Write a file of embeddings and its records as ``facetools embed`` does; give the records' path."""
    rows = np.arange(len(names) * 3, dtype=np.float32).reshape(-1, 3) if rows is None else rows
    known = [
        {"path": f"{top}/{each}", "relative": each, "sha256": sha256(np.asarray(row).tobytes()).hexdigest(), "face": 0}
        for each, row in zip(names, rows, strict=False)
    ]
    extractor = {"name": "net", "sha256": "d" * 64, "distance": "cosine", **changes}
    file = folder / f"{name}.safetensors"
    write_safetensors(
        file, {"embeddings": rows}, {"schema": "facetools.embed/1", "extractor": extractor, "rows": known}
    )
    lines = [{"row": n, "schema": "facetools.embed/1", "file": str(file), **each} for n, each in enumerate(known)]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def faces_of(values: Any, distance: str = "euclidean", name: str = "in") -> Faces:
    rows = np.asarray(values, np.float32)
    about = {"name": "net", "sha256": "d" * 64, "distance": distance}
    return Faces(
        name,
        [EmbeddedFace(Item(f"{name}/{n}", f"{n}"), 0, None, row, about) for n, row in enumerate(rows)],
        rows,
    )


def brute(a: Faces, b: Faces) -> Any:
    """All distances, from the definition: with differences, not with the sums of squares of the code."""
    one, two = a.values.astype(float), b.values.astype(float)
    if a.distance == "cosine":
        one, two = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, two))
        return 1 - one @ two.T
    return np.linalg.norm(one[:, None] - two[None], axis=2)
