"""Views of quantized weights, read in any pieces."""

import numpy as np
import pytest

from _toolio.tensors.reader import ArrayTensor
from berttools.checkpoints.quantized import tensors
from berttools.checkpoints.quantized.tensors import (
    BandedTensor,
    BlockwiseTensor,
    DequantizedTensor,
    Everywhere,
    Grid,
    PackedDownTensor,
    UnpackedTensor,
)

CODES = np.random.default_rng(0).integers(-100, 100, (7, 5)).astype(np.int8)
SPANS = [(start, stop) for start in range(0, 14, 3) for stop in range(start + 1, 36, 4)]


def check(tensor, want):
    want = np.asarray(want).reshape(-1)
    for start, stop in SPANS:
        assert np.array_equal(tensor.values(start, stop), want[start:stop])
        tensor.release(start, stop)


def test_codes_less_zero_points_times_scales():
    codes = ArrayTensor(CODES)
    check(DequantizedTensor(codes, 5, Everywhere(0.5)), CODES * 0.5)
    rows = np.linspace(0.1, 2, 7)
    by_row = Grid(ArrayTensor(rows), (7, 1), (1, 5), 7)
    check(DequantizedTensor(codes, 5, by_row), CODES * rows[:, None])
    blocks = np.arange(1.0, 10).reshape(3, 3)
    spread = blocks.repeat(3, 0)[:7].repeat(2, 1)[:, :5]
    grid = Grid(ArrayTensor(blocks), (3, 3), (3, 2), 7, factor=2.0, decode=lambda stored: stored + 1)
    check(DequantizedTensor(codes, 5, grid, by_row), (CODES - rows[:, None]) * (spread + 1) * 2)


def test_a_stack_of_matrices_and_columns_in_an_order_of_their_own():
    stack, blocks = np.arange(36.0).reshape(2, 6, 3)[:, :5].copy(), np.arange(1.0, 9).reshape(2, 2, 2)
    grid = Grid(ArrayTensor(blocks), (2, 2), (3, 2), 5)
    want = stack * blocks.repeat(3, 1)[:, :5].repeat(2, 2)[:, :, :3]
    assert np.array_equal(DequantizedTensor(ArrayTensor(stack), 3, grid).values(0, 30), want.reshape(-1))
    order = np.array([1, 0, 1, 1, 0])
    grid = Grid(ArrayTensor(np.arange(14.0)), (7, 2), (1, 3), 7, of_column=order)
    check(DequantizedTensor(ArrayTensor(CODES), 5, grid), CODES * np.arange(14.0).reshape(7, 2)[:, order])


def test_packed_rows():
    held = np.arange(28, dtype=np.uint8)
    check(
        UnpackedTensor(ArrayTensor(held), 4, 5, lambda rows: np.repeat(rows, 2, 1)),
        held.reshape(7, 4).repeat(2, 1)[:, :5],
    )


@pytest.mark.parametrize("bits", [3, 4])
def test_zero_points_packed_down(bits):
    rows, groups = 70, 3
    codes = np.random.default_rng(0).integers(0, 1 << bits, (rows, groups))
    words = np.zeros((-(-rows * bits // 32), groups), np.uint64)
    for row in range(rows):
        for bit in range(bits):
            place = row * bits + bit
            words[place // 32] |= ((codes[row] >> bit) & 1).astype(np.uint64) << np.uint64(place % 32)
    flat = PackedDownTensor(ArrayTensor(words.astype(np.uint32).view(np.int32)), bits, groups)
    want = (codes - (1 << (bits - 1))).reshape(-1)
    for start, stop in [(0, 210), (1, 5), (95, 200), (96, 97), (209, 210)]:
        assert np.array_equal(flat.values(start, stop), want[start:stop])
        flat.release(start, stop)


def test_blocks_of_flat_values():
    codes, scales = np.arange(35) % 16, np.arange(1.0, 8)
    held = np.append(codes, 0).astype(np.uint8)
    table = np.linspace(-1, 1, 16)
    flat = BlockwiseTensor(ArrayTensor((held[::2] << 4) | held[1::2]), table, 5, lambda low, high: scales[low:high])
    check(flat, table[codes] * scales.repeat(5))


def test_bands_are_computed_once_and_released(monkeypatch):
    monkeypatch.setattr(tensors, "_BAND_VALUES", 10)
    matrix, made, released = np.arange(35.0).reshape(7, 5), [], []

    def band(first, last):
        made.append((first, last))
        return matrix[first:last]

    flat = BandedTensor(7, 5, band, unit=2, release=lambda: released.append(1))
    assert np.array_equal(flat.values(3, 33), matrix.reshape(-1)[3:33])
    assert made == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert len(released) == 4
    assert np.array_equal(flat.values(22, 33), matrix.reshape(-1)[22:33])
    assert len(made) == 4
    check(flat, matrix)
    assert flat.values(3, 3).size == 0
