"""Distances between embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_TINY = np.finfo(np.float64).tiny
"""Divides an embedding of zeros, which has no direction, and none other: float32 has numbers down to 1e-45."""


def distances(a: npt.NDArray[Any], b: npt.NDArray[Any], kind: str) -> npt.NDArray[np.float64]:
    """Return the pairwise distances of rows, float64 [n, m].

    Parameters
    ----------
    a, b
        Embeddings, [n, D] and [m, D].
    kind
        ``euclidean``, or ``cosine``: 1 minus the cosine.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    if kind == "cosine":
        a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY) for x in (a, b))
        cosine: npt.NDArray[np.float64] = 1 - a @ b.T
        return cosine
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    euclidean: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return euclidean
