"""Effective rank of a change: the share of its energy in its first singular values.

The energy of d is the sum of its squares, which is the sum of its squared singular values. Of a matrix with a side of
up to 2,048 (and, where rows are the short side, 16 million entries) the squares are the eigenvalues of the exact Gram
matrix of that side. Of larger ones they come from
subspace iteration on a random start (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4), read by rows: the
first few are right to about 1e-3 where they stand out, and the share is never too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berttools.layerdiff.distances import Pair

_EXACT_SIDE = 2_048
# Rows against rows reads a wide matrix once for each block of it.
_EXACT_WIDE = 1 << 24
# Values of a block of rows: 8 MB in float64.
_BLOCK_VALUES = 1 << 20
_OVERSAMPLING, _ROUNDS = 10, 4

Matrix = NDArray[np.float64]


def energy_share(pair: Pair, shape: tuple[int, ...], first: int) -> float | None:
    """Return the share of the change's energy in its `first` largest singular values, 0 to 1.

    Parameters
    ----------
    pair
        Base and fine-tuned matrix.
    shape
        Their shape, (rows, columns).
    first
        1 or more; at least the matrix's short side gives 1.

    Returns
    -------
    float or None
        None if nothing changed, it is no matrix, or something is not finite.
    """
    if len(shape) != 2 or not pair.n:
        return None
    change = _Change(pair, *shape)
    with np.errstate(all="ignore"):
        energy = sum(float(np.square(block).sum()) for _, block in change.blocks())
    if not np.isfinite(energy) or energy < 1e-270:
        return None
    rows, columns = shape
    exact = columns <= _EXACT_SIDE or (rows <= _EXACT_SIDE and pair.n <= _EXACT_WIDE)
    squares = change.gram_eigenvalues() if exact else change.leading(first + _OVERSAMPLING)
    return float(min(1.0, max(0.0, np.sort(squares)[::-1][:first].sum() / energy)))


class _Change:
    """The matrix ft - base, read block of rows by block of rows."""

    def __init__(self, pair: Pair, rows: int, columns: int) -> None:
        self._pair, self._rows, self._columns = pair, rows, columns

    def blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield all rows in blocks: which, and a new float64 array of shape (rows in the block, columns)."""
        pair, width = self._pair, self._columns
        step = max(1, _BLOCK_VALUES // width)
        for first in range(0, self._rows, step):
            last = min(first + step, self._rows)
            start, stop = first * width, last * width
            block = pair.ft.values(start, stop).astype(np.float64)
            block -= pair.base.values(start, stop)
            pair.base.release(start, stop)
            pair.ft.release(start, stop)
            yield slice(first, last), block.reshape(-1, width)

    def _sum(self, term: Callable[[slice, Matrix], Matrix], shape: tuple[int, int]) -> Matrix:
        total = np.zeros(shape)
        for rows, block in self.blocks():
            total += term(rows, block)
        return total

    def gram_eigenvalues(self) -> Matrix:
        """Return all squared singular values, in any order."""
        if self._columns <= _EXACT_SIDE:
            gram = self._sum(lambda _, block: block.T @ block, (self._columns, self._columns))
        else:
            gram = np.zeros((self._rows, self._rows))
            # Rows against rows: each block is read beside each earlier one.
            for rows, block in self.blocks():
                for others, other in self.blocks():
                    if others.start > rows.start:
                        break
                    gram[rows, others] = block @ other.T  # eigvalsh reads the lower triangle
        return np.asarray(np.linalg.eigvalsh(gram), np.float64)

    def leading(self, count: int) -> Matrix:
        """Return estimates of the `count` largest squared singular values, none of them too large."""
        count = min(count, self._rows, self._columns)
        # A fixed seed: the same input gives the same result.
        basis: NDArray[Any] = np.random.default_rng(0).standard_normal((self._columns, count))
        for _ in range(_ROUNDS):
            start = np.linalg.qr(basis)[0]
            image = self._image(start)
            basis = self._sum(lambda rows, block, image=image: block.T @ image[rows], basis.shape)  # type: ignore[misc]
        image = self._image(np.linalg.qr(basis)[0])
        squares: Matrix = np.square(np.linalg.svd(image, compute_uv=False))
        return squares

    def _image(self, basis: NDArray[Any]) -> Matrix:
        """Multiply the matrix with a basis, shape (columns, count)."""
        image = np.empty((self._rows, basis.shape[1]))
        for rows, block in self.blocks():
            image[rows] = block @ basis
        return image
