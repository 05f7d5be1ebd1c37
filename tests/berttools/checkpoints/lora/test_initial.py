"""What initialisations take off, against the definitions: SVD and QR of the whole matrix in float64."""

import numpy as np
import pytest

from _toolio.errors import InputError
from berttools.checkpoints.lora.initial import initial_product
from berttools.checkpoints.lora.settings import Initial

SHAPES = [(8, 8), (12, 7), (7, 12)]


def matrix(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_singular_values(shape, rank):
    weight = matrix(shape)
    u, s, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    for initial, part in ((Initial.principal, slice(rank)), (Initial.minor, slice(len(s) - rank, None))):
        left, right = initial_product(weight, rank, initial, 2.0)
        assert left.shape == (shape[0], rank)
        assert right.shape == (rank, shape[1])
        assert np.allclose(left @ right, (u[:, part] * s[part]) @ v[part], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_first_columns(shape, rank):
    weight = matrix(shape)
    q, r = np.linalg.qr(weight.astype(np.float64))
    left, right = initial_product(weight, rank, Initial.first_columns, 2.5)
    assert np.allclose(left @ right, 2.5 * q[:, :rank] @ r[:rank], rtol=1e-12, atol=1e-13)


def test_nothing():
    assert initial_product(matrix((4, 4)), 2, Initial.nothing, 1.0) is None


def test_float16_is_read_in_float64():
    weight = (matrix((40, 30)) * 1e4).astype(np.float16)
    left, right = initial_product(weight, 30, Initial.principal, 1.0)
    assert np.allclose(left @ right, weight.astype(np.float64), rtol=1e-10)


def test_a_rank_that_the_matrix_lacks_takes_off_zeros():
    weight = np.outer(np.arange(1, 7), np.arange(1, 6)).astype(np.float32)
    left, right = initial_product(weight, 3, Initial.principal, 1.0)
    assert np.allclose(left @ right, weight)


@pytest.mark.parametrize(
    ("weight", "rank", "initial", "words"),
    [
        (np.eye(6), 2, Initial.principal, "equal"),
        (np.eye(6), 2, Initial.minor, "equal"),
        (np.ones((6, 6)), 2, Initial.first_columns, "dependent"),
        (np.zeros((6, 6)), 2, Initial.first_columns, "dependent"),
        (np.full((6, 6), np.nan), 2, Initial.principal, "finite"),
        (np.full((6, 6), np.inf), 2, Initial.first_columns, "finite"),
        (matrix((6, 5)), 6, Initial.principal, "shorter side"),
    ],
)
def test_not_determined(weight, rank, initial, words):
    with pytest.raises(InputError, match=words), np.errstate(invalid="ignore"):
        initial_product(weight, rank, initial, 1.0)


def test_all_of_equal_singular_values_is_determined():
    left, right = initial_product(np.eye(6), 6, Initial.principal, 1.0)
    assert np.allclose(left @ right, np.eye(6))
