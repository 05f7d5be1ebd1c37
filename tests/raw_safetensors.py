"""Safetensors files made by hand, and arrays of every dtype that numpy and the format share."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors

GOOD = np.zeros(2, np.float32).tobytes()
"""The data of `one`."""
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def raw_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def one(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    return draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))


def check_refused(path, kind):
    with pytest.raises(ToolError) as caught:
        open_safetensors(path)
    assert caught.value.kind == kind
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message
