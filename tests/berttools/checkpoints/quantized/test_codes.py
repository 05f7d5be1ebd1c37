"""Codes of few bits, against torch's and compressed-tensors' tables and packing."""

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.mxfp6.helpers import unpack_fp6_from_uint8
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized import pack_to_int32

from _toolio.tensors.reader import ArrayTensor
from berttools.checkpoints.quantized.codes import E2M1, E2M3, StoredBytes, unpack, unpack_awq


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_lie_one_after_another(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 64))
    packed = pack_to_int32(torch.from_numpy(codes - (1 << (bits - 1))).char(), bits).numpy()
    assert np.array_equal(unpack(packed.view(np.uint8), bits), codes)
    assert np.array_equal(unpack(packed.view(np.uint8).reshape(3, 1, -1), bits), codes[:, None])


def test_small_floats():
    every = torch.arange(256, dtype=torch.uint8)[None]
    four = unpack_fp4_from_uint8(every, 1, 512, torch.float64).numpy()
    assert np.array_equal(E2M1[unpack(every.numpy(), 4)], four)
    some = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 300)).astype(np.uint8))
    assert np.array_equal(E2M3[unpack(some.numpy(), 6)], unpack_fp6_from_uint8(some, 1, 400, torch.float64).numpy())


def test_awq_spreads_eight_columns_over_a_word():
    word = sum(column << (4 * place) for place, column in enumerate([0, 2, 4, 6, 1, 3, 5, 7]))
    assert unpack_awq(np.array([[word]], np.int32)).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16])
def test_bytes(dtype):
    array = np.arange(24).astype(dtype)
    held, item = array.view(np.uint8), array.itemsize
    flat = StoredBytes(ArrayTensor(array), item)
    for start, stop in [(0, 24), (1, 5), (3, 3), (7, 8 * item)]:
        assert np.array_equal(flat.values(start, stop), held[start:stop])
        flat.release(start, stop)
