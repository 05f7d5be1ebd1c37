"""Shares of principal weights, against singular values by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berttools.layer_scores.principal_weights import low_rank, principal_shares


def matrices(seed: int, *shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_the_approximation_is_that_of_the_singular_values(rows: int, columns: int, rank: int, seed: int) -> None:
    (matrix,) = matrices(seed, (rows, columns))
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    values[rank:] = 0
    assert low_rank(matrix, rank) == pytest.approx(left * values @ right, abs=1e-5)


def test_shares_count_the_largest_twentieth_of_all_entries() -> None:
    given = matrices(0, (64, 96), (128, 64), (64, 64))
    given[1] *= 1.5
    sizes = []
    for each in given:
        left, values, right = np.linalg.svd(each, full_matrices=False)
        rank = min(each.shape) // 32
        sizes.append(np.abs(left[:, :rank] * values[:rank] @ right[:rank]))
    pooled = np.sort(np.concatenate([each.ravel() for each in sizes]))
    least = pooled[-round(0.05 * pooled.size)]
    wanted = [float((each >= least).mean()) for each in sizes]
    # An entry at the limit may lie on the other side by rounding.
    assert principal_shares(given) == pytest.approx(wanted, abs=1.5 / 4096)
    assert wanted[1] > wanted[2] > 0


def test_shares_add_up_to_a_twentieth_of_all_and_do_not_depend_on_scale_or_order() -> None:
    given = matrices(1, (40, 64), (64, 40), (40, 40))
    shares = principal_shares(given)
    total = sum(share * each.size for share, each in zip(shares, given, strict=True))
    assert total == round(0.05 * sum(each.size for each in given))
    assert principal_shares([4 * each for each in given]) == shares
    assert principal_shares(given[::-1]) == shares[::-1]


def test_matrices_of_zeros_are_no_error() -> None:
    assert principal_shares([np.zeros((4, 4), np.float32)]) == [1.0]
