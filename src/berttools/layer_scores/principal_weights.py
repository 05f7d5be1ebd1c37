"""Shares of principal weights: large entries of low-rank approximations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

SHARE_OF_RANK, SHARE_OF_WEIGHTS = 1 / 32, 0.05
"""Rank of the approximation over the short side of a matrix, and the share of all weights that is principal.

LIFT keeps 5% of the weights, and its authors recommend a rank of 128, which is 1/32 of the sides of the models that
they tune (4,096).
"""

Matrix = NDArray[np.float32]


def low_rank(matrix: Matrix, rank: int) -> Matrix:
    """Return the best approximation of a matrix [rows, columns] of a rank, in float32.

    It is the matrix projected on its first right (or left) singular vectors, the eigenvectors of the Gram matrix of its
    short side: Eckart and Young 1936.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return low_rank(matrix.T, rank).T
    gram = matrix.T.astype(np.float64) @ matrix
    vectors = np.asarray(np.linalg.eigh(gram)[1][:, -rank:], np.float32)
    return np.asarray((matrix @ vectors) @ vectors.T, np.float32)


def principal_shares(matrices: Iterable[Matrix]) -> Sequence[float]:
    """Return each matrix's share of entries that are principal weights, 0 to 1.

    Principal weights are the entries of largest magnitude of W', the approximation of rank r of W: LIFT, Liu et al.
    2025, arXiv 2506.00772, section 3. LIFT tunes the same number of them in every matrix, which ranks entries and not
    matrices; here the 5% are taken of the entries of all matrices together, and a matrix is ranked by how many of its
    entries are among them. It depends on the weights alone: neither on texts nor on the task.

    Memory: four bytes an entry of all matrices.
    """
    sizes = [np.abs(low_rank(each, max(1, round(min(each.shape) * SHARE_OF_RANK)))).ravel() for each in matrices]
    pooled = np.concatenate(sizes)
    count = max(1, round(pooled.size * SHARE_OF_WEIGHTS))
    pooled.partition(pooled.size - count)
    least = pooled[pooled.size - count]
    return [float(np.mean(each >= least)) for each in sizes]
