"""Find the pairs of faces that are nearest to each other, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.progress import Progress, no_progress
from facetools.embeddings.distances import distances
from facetools.embeddings.files import check_finite
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.embeddings.records import EmbeddedFace, check_alike, distinct_faces, read_faces

BLOCK = 1024
"""Faces on either side of a block of distances: 8 MB."""

MOST_PAIRS = 1_000_000
"""Pairs that are kept at most where nothing else is said: 16 MB, and twice that on the way."""


_Found = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
_NONE: _Found = (np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Faces:
    """Embedded faces of one input, each once.

    Attributes
    ----------
    name
        The input.
    faces
        Its faces, all of one extractor.
    values
        Their embeddings, float32 [n, D], finite.
    """

    name: str
    faces: Sequence[EmbeddedFace]
    values: npt.NDArray[np.float32]

    @property
    def distance(self) -> str:
        """``cosine`` or ``euclidean``: what the extractor's embeddings are compared with."""
        return str(self.faces[0].extractor["distance"])

    def points(self) -> npt.NDArray[np.float64]:
        """Return points, float64 [n, D], whose distance is the faces'; its square half, where that is cosine."""
        values = self.values.astype(np.float64)
        return values / np.linalg.norm(values, axis=1, keepdims=True) if self.distance == "cosine" else values


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of faces, nearest first; ties in the order of their faces.

    Attributes
    ----------
    first, second
        int64 [n]: numbers of the two faces.
    distances
        float64 [n]: cosine distances, or Euclidean ones.
    within
        Number of pairs at the threshold or below it, those that are not kept too.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]
    within: int


def read_embedded(names: Sequence[str], *, verb: str = "match") -> list[Faces]:
    """Read the faces of one or more inputs that are to be compared with each other.

    Parameters
    ----------
    names
        What ``facetools.embeddings.records.read_faces`` reads.
    verb
        What is to be done with them, for messages.

    Raises
    ------
    ToolError
        An input has no face, is of another extractor than the first, contradicts itself, or an embedding is not finite
        or, where distances are cosines, of length 0.
    """
    read: list[Faces] = []
    for name in names:
        if Path(name).is_dir() and not is_folder_of_parts(name):
            raise ToolError(
                f"{name}: is a folder; embed its photos first: `facetools embed` makes records that name them",
                kind="embeddings",
            )
        faces = distinct_faces(name, read_faces(name)[0])
        if not faces:
            raise ToolError(f"{name}: no face in it; embed photos with `facetools embed`", kind="empty")
        everybody = [*(read[0].faces if read else ()), *faces]
        check_alike(" and ".join([*(each.name for each in read[:1]), name]), everybody, verb=verb)
        for face in faces:
            check_finite(face.embedding, name, face.item.path)
            if face.extractor["distance"] == "cosine" and not face.embedding.any():
                raise ToolError(
                    f"{name}: the embedding of {face.item.path} is all zeros, which has no cosine; embed it again or "
                    "leave it out",
                    kind="nan",
                )
        read.append(Faces(name, faces, np.stack([face.embedding for face in faces])))
    return read


def block_distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    """Return the distances of blocks of ``Faces.points``, float64 [n, m], as ``kind`` has them; 0 for equal points."""
    apart = distances(a, b, "euclidean")
    # A difference of sums of squares loses its digits where two points are close: those are subtracted first.
    rows, columns = np.nonzero(apart < 1e-3 * np.linalg.norm(a, axis=1)[:, None])
    for start in range(0, len(rows), BLOCK):
        row, column = rows[start : start + BLOCK], columns[start : start + BLOCK]
        apart[row, column] = np.linalg.norm(a[row] - b[column], axis=1)
    return apart**2 / 2 if kind == "cosine" else apart


def together(inputs: Sequence[Faces]) -> Faces:
    """Return the faces of several inputs as one; a face that is in two of them is there once."""
    name = " and ".join(each.name for each in inputs)
    faces = distinct_faces(name, (face for each in inputs for face in each.faces))
    return Faces(name, faces, np.stack([face.embedding for face in faces]))


def nearest_pairs(
    a: Faces,
    b: Faces | None,
    threshold: float,
    *,
    most: int = MOST_PAIRS,
    beyond: bool = False,
    progress: Progress = no_progress,
) -> Pairs:
    """Return the nearest pairs of faces.

    Distances are computed in blocks, and few more pairs are kept than are returned: memory does not grow with the
    square of the faces.

    Parameters
    ----------
    a, b
        The faces. Pairs are of one of ``a`` and one of ``b``, where no face is paired with itself; without ``b`` of
        two of ``a``.
    threshold
        The largest distance that counts as within.
    most
        Pairs at most.
    beyond
        Return pairs beyond the threshold, too.
    progress
        Shows the progress over blocks.
    """
    other, cut = b or a, np.inf if beyond else threshold
    left, right, (own, its_other) = a.points(), other.points(), _same_faces(a, b)
    kept, waiting, held, within = _NONE, list[_Found](), 0, 0
    starts = [(i, j) for i in range(0, len(left), BLOCK) for j in range(0 if b else i, len(right), BLOCK)]
    for i, j in progress(starts, "matching", len(starts)):
        apart = block_distances(left[i : i + BLOCK], right[j : j + BLOCK], a.distance)
        if b is None and i == j:
            apart[np.tril_indices(len(apart))] = np.inf
        here = (own // BLOCK == i // BLOCK) & (its_other // BLOCK == j // BLOCK)
        apart[own[here] - i, its_other[here] - j] = np.inf
        within += int((apart <= threshold).sum())
        rows, columns = np.nonzero((apart <= cut) & np.isfinite(apart))
        waiting.append((apart[rows, columns], i + rows, j + columns))
        held += len(rows)
        if held > most:
            kept, waiting, held = _nearest([kept, *waiting], most), [], 0
            cut = min(cut, float(kept[0][-1]))
    nearest, first, second = _nearest([kept, *waiting], most)
    return Pairs(first, second, nearest, within)


def _same_faces(a: Faces, b: Faces | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers that faces have in both inputs, each a face of one photo at one path."""
    known = {(face.item.path, face.face): number for number, face in enumerate(b.faces if b else ())}
    keys = ((face.item.path, face.face) for face in a.faces)
    both = [(number, known[key]) for number, key in enumerate(keys) if key in known]
    numbers = np.array(both, np.int64).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _nearest(found: Sequence[_Found], limit: int) -> _Found:
    """Return the nearest of pairs, at most ``limit``; ties in the order of their faces."""
    apart, first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(apart) > limit:
        near = apart <= np.partition(apart, limit - 1)[limit - 1]  # with all ties of the last
        apart, first, second = apart[near], first[near], second[near]
    order = np.lexsort((second, first, apart))[:limit]
    return apart[order], first[order], second[order]
