import numpy as np
import pytest

from _toolio.tensors.reader import ArrayTensor
from berttools.layerdiff import singular_values as ranks
from berttools.layerdiff.distances import Pair
from berttools.layerdiff.singular_values import energy_share


def share(change, first, base=None):
    base = np.zeros_like(change) if base is None else base
    return energy_share(Pair(ArrayTensor(base), ArrayTensor(base + change), change.size), change.shape, first)


def true_share(change, first):
    squares = np.linalg.svd(change, compute_uv=False) ** 2
    return squares[:first].sum() / squares.sum()


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (300, 7), (7, 300), (1, 9), (9, 1)])
@pytest.mark.parametrize("first", [1, 3, 8])
@pytest.mark.parametrize("block", [1 << 20, 64])
def test_exact_where_a_side_is_short(monkeypatch, shape, first, block):
    monkeypatch.setattr(ranks, "_BLOCK_VALUES", block)
    change = np.random.default_rng(0).normal(size=shape)
    assert share(change, first) == pytest.approx(true_share(change, first), rel=1e-12)


def test_a_low_rank_change_of_a_float32_matrix():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(60, 50)).astype(np.float32)
    change = (rng.normal(size=(60, 2)) @ rng.normal(size=(2, 50))).astype(np.float32)
    assert share(change, 2, base) == pytest.approx(1, abs=1e-10)
    assert 0.3 < share(change, 1, base) < 0.99


@pytest.mark.parametrize("shape", [(200, 160), (160, 200)])
def test_iteration_for_large_matrices(monkeypatch, shape):
    monkeypatch.setattr(ranks, "_EXACT_SIDE", 8)
    monkeypatch.setattr(ranks, "_BLOCK_VALUES", 1000)
    rng = np.random.default_rng(2)
    low = rng.normal(size=(shape[0], 4)) @ rng.normal(size=(4, shape[1]))
    change = low + 0.3 * rng.normal(size=shape)
    for first in (1, 4):
        got = share(change, first)
        assert got == pytest.approx(true_share(change, first), abs=1e-4)
        assert got <= true_share(change, first) + 1e-12
    assert share(low, 4) == pytest.approx(1, abs=1e-12)


def test_what_has_no_share():
    assert share(np.zeros((5, 5)), 1) is None
    assert share(np.full((5, 5), np.nan), 1) is None
    assert share(np.ones(5), 1) is None
    assert share(np.eye(4), 9) == 1
