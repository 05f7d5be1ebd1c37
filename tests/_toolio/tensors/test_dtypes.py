import re

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save_file as save_torch

from _toolio.errors import InputError
from _toolio.tensors.dtypes import DTYPE_BYTES, FORMAT_NAMES
from _toolio.tensors.reader import open_safetensors
from _toolio.tensors.writer import stream_safetensors
from raw_safetensors import one, raw_file

TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
REFUSED_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64,
}  # fmt: skip


def theirs(folder):
    """Every dtype that the installed library knows: its error about one that it does not know lists them."""
    with pytest.raises(SafetensorError) as caught:
        safe_open(raw_file(folder / "unknown", {"a": one("nonsense")}, bytes(8)), "numpy")
    return set(re.findall("`([A-Z][A-Z0-9_]*)`", str(caught.value)))


def some_bits(dtype):
    """48 values of a dtype as bytes: at random, but of bools only 0 and 1 are any."""
    bits = REFUSED_BITS.get(dtype) or 8 * DTYPE_BYTES[dtype]
    numbers = np.random.default_rng(bits).integers(2 if dtype == "BOOL" else 256, size=48 * bits // 8)
    return numbers.astype(np.uint8).tobytes()


def test_every_dtype_of_the_library_is_read_or_refused_by_name(tmp_path):
    assert theirs(tmp_path) <= {*TORCH, *REFUSED_BITS}, "the library knows a new dtype"
    assert TORCH.keys() == DTYPE_BYTES.keys() <= theirs(tmp_path)


@pytest.mark.parametrize("dtype", TORCH)
def test_what_the_library_writes_of_a_dtype_is_read(tmp_path, dtype):
    tensor = torch.frombuffer(bytearray(some_bits(dtype)), dtype=torch.uint8).view(TORCH[dtype]).view(6, 8)
    save_torch({"t": tensor}, tmp_path / "a")
    with open_safetensors(tmp_path / "a") as file:
        assert file.entries["t"][:2] == (dtype, (6, 8))
        assert file.flat("t").stored(0, 48).tobytes() == some_bits(dtype)
        got = file.tensor("t")
    wide = tensor.float() if dtype in ("BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0") else tensor
    np.testing.assert_array_equal(got, wide.numpy())
    assert got.dtype == wide.numpy().dtype


@pytest.mark.parametrize("dtype", TORCH)
def test_what_is_written_of_a_dtype_the_library_reads(tmp_path, dtype):
    code = {name: code for code, name in FORMAT_NAMES.items()}.get(dtype, f"<u{DTYPE_BYTES[dtype]}")
    values = np.frombuffer(some_bits(dtype), code)
    stream_safetensors(tmp_path / "a", {"t": (dtype, (6, 8))}, lambda name: [values[:5], values[5:]])
    read = load_file(tmp_path / "a")["t"]
    assert (read.dtype, read.shape) == (TORCH[dtype], (6, 8))
    assert read.contiguous().view(torch.uint8).numpy().tobytes() == some_bits(dtype)


@pytest.mark.parametrize("dtype", REFUSED_BITS)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, dtype):
    data = some_bits(dtype)
    path = raw_file(tmp_path / "a", {"t": one(dtype, (48,), (0, len(data)))}, data)
    if dtype in theirs(tmp_path):
        with safe_open(path, "numpy") as file:
            assert file.keys() == ["t"]
    with open_safetensors(path) as ours, pytest.raises(InputError, match=f"cannot read dtype {dtype} of t") as caught:
        ours.tensor("t")
    assert caught.value.kind == "unknown-dtype"


def test_bfloat16_and_8_bit_floats_are_what_torch_says(tmp_path):
    every16 = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    every8 = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    tensors = {
        "bf16": every16.view(torch.bfloat16),
        "e4m3": every8.view(torch.float8_e4m3fn),
        "e5m2": every8.clone().view(torch.float8_e5m2),
    }
    save_torch(tensors, tmp_path / "a.safetensors")
    file = open_safetensors(tmp_path / "a.safetensors")
    for name, tensor in tensors.items():
        got, want = file.tensor(name), tensor.float().numpy()
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want)
        finite = ~np.isnan(want)
        assert (np.signbit(got) == np.signbit(want))[finite].all()
