"""Compute what an initialisation took off the base weights: PiSSA, OLoRA and KaSA.

Each is a function of the base alone, and PEFT computes it again whenever it loads an adapter, in float32. It is the
same for every way to compute it if the singular value where it is cut stands apart from the next; where it does not,
this is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError
from berttools.checkpoints.lora.settings import Initial

Matrix = NDArray[np.float64]
Product = tuple[Matrix, Matrix]
"""Two factors, (rows, r) and (r, columns)."""

# Relative to the largest: float32 has singular vectors right to about 1e-7 over this.
_APART = 1e-5
# Values of a block of rows: 8 MB in float64.
_BLOCK_VALUES = 1 << 20


def initial_product(weight: NDArray[Any], rank: int, initial: Initial, scale: float) -> Product | None:
    """Return the factors of what an initialisation takes off a weight.

    Parameters
    ----------
    weight
        The base's, shape (rows, columns), as it is stored.
    rank
        The adapter's, from 1 to the shorter side.
    initial
        Which one.
    scale
        What the adapter's product is multiplied by.

    Returns
    -------
    tuple of float64 arrays, or None
        None if it takes nothing off.

    Raises
    ------
    InputError
        Kind ``"adapter"``: the weight does not determine it.
    """
    if initial == Initial.nothing:
        return None
    if rank > min(weight.shape):
        raise InputError(f"rank {rank} is more than {min(weight.shape)}, the shorter side", kind="adapter")
    if initial == Initial.first_columns:
        return _first_columns(weight, rank, scale)
    return _singular_part(weight, rank, smallest=initial == Initial.minor)


def _blocks(matrix: NDArray[Any]) -> Iterator[tuple[slice, Matrix]]:
    step = max(1, _BLOCK_VALUES // matrix.shape[1])
    for first in range(0, len(matrix), step):
        rows = slice(first, first + step)
        yield rows, matrix[rows].astype(np.float64)


def _singular_part(weight: NDArray[Any], rank: int, *, smallest: bool) -> Product:
    """Return the part of the `rank` largest, or smallest, singular values."""
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    for _, block in _blocks(tall):
        gram += block.T @ block
    if not np.isfinite(gram).all():
        raise InputError("its weights are not finite", kind="adapter")
    squares, vectors = np.linalg.eigh(gram)  # the smallest first
    values = np.sqrt(np.maximum(squares, 0))
    cut = rank if smallest else len(values) - rank
    _check_apart(values, cut)
    chosen = vectors[:, :cut] if smallest else vectors[:, cut:]
    image = np.empty((len(tall), rank))
    for rows, block in _blocks(tall):
        image[rows] = block @ chosen
    return (image, chosen.T) if tall is weight else (chosen, image.T)


def _check_apart(values: Matrix, cut: int) -> None:
    """Check that the part below or above a cut of ascending singular values is determined."""
    if 0 < cut < len(values) and values[cut] - values[cut - 1] < _APART * values[-1] <= values[cut]:
        raise InputError(
            f"its singular values {len(values) - cut} and {len(values) - cut + 1} are equal, {values[cut]:.6g}, so what"
            " its initialisation took off is not determined",
            kind="adapter",
        )


def _first_columns(weight: NDArray[Any], rank: int, scale: float) -> Product:
    """Return `scale` times the projection on what the first columns span: the first `rank` columns of Q R."""
    basis, triangle = np.linalg.qr(weight[:, :rank].astype(np.float64))
    diagonal = np.abs(np.diag(triangle))
    if not np.isfinite(diagonal).all():
        raise InputError("its weights are not finite", kind="adapter")
    if diagonal.min() <= _APART * diagonal.max():
        raise InputError(
            f"its first {rank} columns are linearly dependent, so what its initialisation took off is not determined",
            kind="adapter",
        )
    rest = np.zeros((rank, weight.shape[1]))
    for rows, block in _blocks(weight):
        rest += basis[rows].T @ block
    return scale * basis, rest
