"""nf4 and fp4: tensors made by hand as bitsandbytes saves them."""

import json

import numpy as np
import pytest
import torch

from _toolio.errors import InputError
from quantized_models import NF4, opened, save, weight

P = "layer.0.fc1.weight"
FP4 = [part / 12 for part in (0, 0.0625, 8, 12, 4, 6, 2, 3, -0.0, -0.0625, -8, -12, -4, -6, -2, -3)]


def four_bits(kind, shape=(12, 50), block=64, nested=False):
    """Return tensors as bitsandbytes stores them, and the weight in float64."""
    rng = np.random.default_rng(0)
    count = shape[0] * shape[1]
    table = np.float32(NF4 if kind == "nf4" else FP4)
    codes = rng.integers(0, 16, count)
    blocks = -(-count // block)
    said = {"quant_type": kind, "blocksize": block, "dtype": "float16", "shape": list(shape)}
    if nested:
        inner, meaning = rng.integers(0, 256, blocks), np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
        outer = rng.random(-(-blocks // 4)).astype(np.float32)
        said |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.7}
        absmax = meaning.astype(float)[inner] * outer.astype(float)[np.arange(blocks) // 4] + 0.7
        scales = {"absmax": inner.astype(np.uint8), "nested_absmax": outer, "nested_quant_map": meaning}
    else:
        absmax = rng.random(blocks).astype(np.float32).astype(float)
        scales = {"absmax": absmax.astype(np.float32)}
    exact = table.astype(float)[codes] * absmax[np.arange(count) // block]
    held = np.pad(codes, (0, count % 2)).astype(np.uint8)
    tensors = {P: ((held[::2] << 4) | held[1::2]).reshape(-1, 1), f"{P}.quant_map": table}
    tensors |= {f"{P}.{name}": each for name, each in scales.items()}
    state = np.frombuffer(json.dumps(said).encode(), np.uint8)
    return tensors | {f"{P}.quant_state.bitsandbytes__{kind}": state}, exact.reshape(shape)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(12, 50), (3, 7), (64, 64)])
def test_four_bits(tmp_path, kind, nested, shape):
    tensors, exact = four_bits(kind, shape, nested=nested)
    folder = save(tmp_path / "m", tensors, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    np.testing.assert_allclose(weight(folder, P), exact, rtol=1e-15)
    assert list(opened(folder).tensors) == [P]
    assert opened(folder).tensors[P].shape == shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_bytes_that_are_stored_as_another_dtype(tmp_path, dtype):
    tensors, exact = four_bits("nf4", (64, 64))
    tensors[P] = torch.from_numpy(tensors[P]).reshape(-1).view(dtype).reshape(-1, 1)
    np.testing.assert_allclose(weight(save(tmp_path / "m", tensors), P), exact, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "other", "why"),
    [
        ("", np.zeros((1, 300), np.uint8), "two a byte"),
        ("", np.zeros((299, 1), np.uint8), "two a byte"),
        (".absmax", np.zeros(9, np.float32), "absmax is not 10 numbers"),
        (".absmax", np.zeros(10, np.float16), "absmax is F16"),
        (".quant_map", np.zeros(15, np.float32), "quant_map is not 16"),
        (".quant_state.bitsandbytes__nf4", np.frombuffer(b'{"shape": [3]', np.uint8), "does not say"),
        (".quant_state.bitsandbytes__nf4", np.frombuffer(b'{"shape": [600], "blocksize": 64}', np.uint8), "says None"),
        (".quant_state.bitsandbytes__nf4", np.ones(3, np.float32), "no bytes"),
        (".lut", np.zeros(4, np.float32), "lut beside it, of no known format"),
    ],
)
def test_what_is_not_certain(tmp_path, name, other, why):
    tensors, _ = four_bits("nf4")
    with pytest.raises(InputError, match=why):
        weight(save(tmp_path / "m", tensors | {P + name: other}), P)
