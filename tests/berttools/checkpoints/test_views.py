import numpy as np
import pytest
import torch

from _toolio.tensors.reader import ArrayTensor
from berttools.checkpoints.views import (
    ColumnsTensor,
    MergedTensor,
    ReplacedRowsTensor,
    RescaledTensor,
    RoundedTensor,
    RowsTensor,
    coarser,
)

MATRIX = np.arange(35, dtype=np.float32).reshape(7, 5)
SPANS = [(start, stop) for start in range(0, 14, 3) for stop in range(start + 1, 15)]


def check(tensor, want):
    want = np.asarray(want).reshape(-1)
    for start, stop in SPANS:
        got = tensor.values(start, stop)
        assert np.array_equal(got, want[start:stop])
        tensor.release(start, stop)


def test_rows_and_columns():
    whole = ArrayTensor(MATRIX)
    check(RowsTensor(whole, 10), MATRIX[2:])
    check(ColumnsTensor(whole, 5, 1, 3), MATRIX[:, 1:3])
    check(ColumnsTensor(whole, 5, 0, 5), MATRIX)


def test_merged():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(7, 2)), rng.normal(size=(2, 5))
    tensor = MergedTensor(ArrayTensor(MATRIX), 5, lambda: (left, right))
    assert np.allclose(tensor.values(0, 35).reshape(7, 5), MATRIX + left @ right, rtol=1e-15)
    assert np.allclose(tensor.values(6, 19), (MATRIX + left @ right).reshape(-1)[6:19], rtol=1e-15)


def test_rescaled():
    rows, columns = np.linspace(0.1, 2, 7)[:, None], np.linspace(0.1, 2, 5)[None]
    check(RescaledTensor(ArrayTensor(MATRIX), 5, lambda: rows), MATRIX * rows)
    check(RescaledTensor(ArrayTensor(MATRIX), 5, lambda: columns), MATRIX * columns)


def test_replaced_rows():
    other = -np.arange(10, dtype=np.float32).reshape(2, 5)
    want = MATRIX.copy()
    want[[2, 0]] = other
    check(ReplacedRowsTensor(ArrayTensor(MATRIX), 5, [2, 0], ArrayTensor(other)), want)


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"),
    [
        ("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32),
        ("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2),
    ],
)  # fmt: skip
def test_rounding_is_torchs(dtype, torch_dtype):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=4000) * 10.0 ** rng.integers(-4, 2, 4000)).astype(np.float32)
    # Ties and values between the smallest ones too.
    values[:6] = [1.0625, 1.1875, -1.00390625, 2**-10, 3 * 2**-10, 0]
    want = torch.from_numpy(values).to(torch_dtype).double().numpy()
    got = RoundedTensor(ArrayTensor(values), dtype).values(0, 4000).astype(np.float64)
    assert np.array_equal(got, want)


def test_which_dtype_has_fewer_digits():
    assert coarser("F32", "BF16") == coarser("BF16", "F32") == coarser("BF16", "F16") == "BF16"
    assert coarser("F64", "F32") == "F32"
    assert coarser("F32", "F32") is None
    assert coarser("I8", "F32") is None
