import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save

from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import METADATA_KEY, stream_safetensors, write_safetensors
from raw_safetensors import arrays


@given(st.dictionaries(st.text(min_size=1, max_size=8), arrays(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_safetensors_library_reads_what_is_written(tmp_path_factory, tensors):
    tensors.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("w") / "a.safetensors"
    write_safetensors(path, tensors, {"b": [1, 2.5], "a": None})
    theirs, ours = load_file(path), open_safetensors(path)
    assert theirs.keys() == tensors.keys() == ours.entries.keys()
    for name, array in tensors.items():
        for got in (theirs[name], ours.tensor(name)):
            assert got.dtype == array.dtype
            assert got.shape == array.shape
            assert got.tobytes() == array.tobytes()
    assert read_metadata(path) == {"a": None, "b": [1, 2.5]}


def test_the_same_input_makes_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"b": rng.normal(size=3), "a": np.ones(3, bool), "c": rng.normal(size=(2, 2)).astype("f4")}
    write_safetensors(tmp_path / "1", tensors, {"x": 1, "y": {"d": 1, "c": 2}})
    write_safetensors(tmp_path / "2", dict(reversed(tensors.items())), {"y": {"c": 2, "d": 1}, "x": 1})
    data = (tmp_path / "1").read_bytes()
    assert data == (tmp_path / "2").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0
    with safe_open(tmp_path / "1", "numpy") as theirs:
        assert theirs.metadata() == {METADATA_KEY: '{"x":1,"y":{"c":2,"d":1}}'}
    for name, entry in open_safetensors(tmp_path / "1").entries.items():
        assert entry.begin % tensors[name].dtype.itemsize == 0


def test_strided_and_big_endian_arrays_are_written_by_value(tmp_path):
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_safetensors(tmp_path / "a", {"t": grid.T, "step": grid[:, ::2], "big": grid.astype(">f4")})
    got = load_file(tmp_path / "a")
    np.testing.assert_array_equal(got["t"], grid.T)
    np.testing.assert_array_equal(got["step"], grid[:, ::2])
    np.testing.assert_array_equal(got["big"], grid)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="complex"):
        write_safetensors(tmp_path / "a", {"c": np.zeros(2, complex)})
    with pytest.raises(ValueError, match="JSON"):
        write_safetensors(tmp_path / "a", {}, {"x": math.nan})
    with pytest.raises(ToolError, match="does not exist") as caught:
        write_safetensors(tmp_path / "no" / "a", {})
    assert caught.value.kind == "unwritable"
    assert list(tmp_path.iterdir()) == []


def both(path, tensors):
    """What is written here, and what the library writes of the same tensors and metadata."""
    write_safetensors(path, tensors, {"a": 1})
    return path.read_bytes(), save(tensors, {METADATA_KEY: '{"a":1}'})


def test_where_each_width_has_one_dtype_the_library_writes_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"b": rng.normal(size=(3, 5)).astype("f4"), "c": rng.normal(size=3).astype("f2"), "d": np.arange(4)}
    tensors |= {"a": np.ones((2, 1), "f4"), "e": np.ones(3, bool), "none": np.zeros((0, 2), "f4")}
    ours, theirs = both(tmp_path / "a", tensors)
    assert ours == theirs


@pytest.mark.parametrize(
    "tensors",
    [{"a": np.zeros(2, "i4"), "b": np.zeros(2, "f4")}, {"\u00e4": np.zeros(2, "f4")}],
    ids=["two dtypes of one width", "a name that is no ASCII"],
)
def test_where_the_library_would_write_other_bytes(tmp_path, tensors):
    ours, theirs = both(tmp_path / "a", tensors)
    assert ours != theirs
    (tmp_path / "b").write_bytes(theirs)
    for name in tensors:
        assert load_file(tmp_path / "a")[name].tobytes() == open_safetensors(tmp_path / "b").tensor(name).tobytes()


def test_a_format_stands_beside_the_metadata(tmp_path):
    write_safetensors(tmp_path / "a", {"t": np.zeros(1)}, {"x": 1}, format="pt")
    with safe_open(tmp_path / "a", "numpy") as theirs:
        assert theirs.metadata() == {METADATA_KEY: '{"x":1}', "format": "pt"}
    header = (tmp_path / "a").read_bytes()[8:]
    assert header.startswith(b'{"__metadata__":{"epsilon-tools":"{\\"x\\":1}","format":"pt"}')


def test_tensors_come_in_pieces_one_name_at_a_time(tmp_path):
    grid, asked = np.arange(12, dtype="f4").reshape(3, 4), []

    def pieces(name):
        asked.append(name)
        return iter(grid) if name == "rows" else [grid[:0], grid[:1].view("u2")]

    stream_safetensors(tmp_path / "a", {"rows": ("F32", (3, 4)), "bits": ("BF16", (8,))}, pieces)
    assert asked == ["rows", "bits"]
    write_safetensors(tmp_path / "b", {"rows": grid})
    assert load_file(tmp_path / "b")["rows"].tobytes() == open_safetensors(tmp_path / "a").tensor("rows").tobytes()
    assert open_safetensors(tmp_path / "a").entries["bits"].shape == (8,)


@pytest.mark.parametrize("short", [[], [np.zeros(2, "f4")], [np.zeros(4, "f4")]])
def test_pieces_that_are_not_the_tensor_leave_nothing(tmp_path, short):
    with pytest.raises(ValueError, match="'t' have not as many bytes"):
        stream_safetensors(tmp_path / "a", {"t": ("F32", (3,))}, lambda name: short)
    with pytest.raises(TypeError, match="dtype F4"):
        stream_safetensors(tmp_path / "a", {"t": ("F4", (4,))}, lambda name: short)
    assert list(tmp_path.iterdir()) == []


def test_a_header_says_what_the_format_says(tmp_path):
    write_safetensors(tmp_path / "a", {"t": np.arange(3, dtype="i2")})
    data = (tmp_path / "a").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert json.loads(data[8:end])["t"] == {"dtype": "I16", "shape": [3], "data_offsets": [0, 6]}
    assert data[end:] == bytes([0, 0, 1, 0, 2, 0])
