import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from _toolio.errors import InputError, ToolError
from _toolio.tensors.reader import ArrayTensor, open_safetensors, read_metadata
from _toolio.tensors.writer import METADATA_KEY, write_safetensors
from raw_safetensors import GOOD, arrays, check_refused, one, raw_file


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), arrays(), min_size=1))
@settings(max_examples=40, deadline=None)
def test_what_the_safetensors_library_writes_is_read(tmp_path_factory, tensors):
    tensors.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("r") / "a.safetensors"
    save_file({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tensors.items()}, path, {"k": "v"})
    with open_safetensors(path) as ours:
        assert ours.metadata == {"k": "v"}
        for name, array in tensors.items():
            assert ours.tensor(name).tobytes() == array.tobytes()
            assert ours.tensor(name).shape == array.shape


def test_floats_are_views_of_the_file(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"a": np.arange(6.0).reshape(2, 3)})
    array = open_safetensors(tmp_path / "a.safetensors").tensor("a")
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_unaligned_file_is_read(tmp_path):
    text = json.dumps({"a": one()}).encode()
    text += b" " * (1 + -len(text) % 4)  # the data begins at an odd address
    raw_file(tmp_path / "a.safetensors", text, np.float32([1.5, -2]).tobytes())
    assert open_safetensors(tmp_path / "a.safetensors").tensor("a").tolist() == [1.5, -2]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_chunks_join_to_the_tensor(tmp_path, size):
    array = np.random.default_rng(0).normal(size=(50, 73)).astype(np.float32)
    write_safetensors(tmp_path / "a.safetensors", {"a": array, "none": np.zeros((0, 3))})
    file = open_safetensors(tmp_path / "a.safetensors")
    pieces = [piece.copy() for piece in file.chunks("a", size)]
    assert all(len(piece) <= size for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), array.reshape(-1))
    assert list(file.chunks("none", size)) == []


def test_pages_that_were_let_go_of_are_read_again(tmp_path):
    array = np.arange(100_000, dtype=np.float32)
    write_safetensors(tmp_path / "a.safetensors", {"a": array})
    flat = open_safetensors(tmp_path / "a.safetensors").flat("a")
    view = flat.values(0, 100_000)
    flat.release(10, 99_990)
    flat.release(5, 5)
    np.testing.assert_array_equal(view, array)


def test_an_array_is_readable_after_its_file_was_closed(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"a": np.arange(3.0)})
    with open_safetensors(tmp_path / "a.safetensors") as file:
        array = file.tensor("a")
    assert array.tolist() == [0, 1, 2]
    assert file.tensor("a").tolist() == [0, 1, 2]


def test_an_array_in_memory_is_read_alike():
    flat = ArrayTensor(np.arange(6).reshape(2, 3))
    assert flat.values(1, 4).tolist() == [1, 2, 3]
    flat.release(0, 6)


def test_metadata_of_other_makers(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "pt", {"format": "pt"})
    assert read_metadata(tmp_path / "pt") == {}
    for text in ("[1]", "{", "[" * 100_000):
        save_file({"a": np.zeros(1)}, tmp_path / "bad", {METADATA_KEY: text})
        with pytest.raises(ToolError, match="metadata") as caught:
            read_metadata(tmp_path / "bad")
        assert caught.value.kind == "bad-header"


def test_a_cut_file_says_how_much_is_missing(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.arange(1000.0)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-123])
    assert "123 bytes are missing" in check_refused(path, "truncated")
    for size in range(9, 40):
        path.write_bytes(whole[:size])
        check_refused(path, "truncated")
    path.write_bytes(whole[:8])
    check_refused(path, "truncated")
    for size in range(1, 8):
        path.write_bytes(whole[:size])
        check_refused(path, "not-safetensors")
    path.write_bytes(b"")
    assert "empty" in check_refused(path, "truncated")


def test_a_file_that_shrank_after_it_was_opened(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.arange(1000.0)})
    file = open_safetensors(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ToolError, match="8 bytes are missing"):
        file.tensor("a")


def test_other_formats_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    torch.save({"a": torch.zeros(3)}, path)
    assert "a zip" in check_refused(path, "not-safetensors")
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps({"a": 1}, protocol))
        assert "a pickle" in check_refused(path, "not-safetensors")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in check_refused(path, "not-safetensors")
    path.write_bytes(b"<!DOCTYPE html><html>404")
    assert "web page" in check_refused(path, "not-safetensors")
    path.write_bytes(b"GGUF" + bytes(100))
    assert "GGUF" in check_refused(path, "not-safetensors")
    path.write_bytes(os.urandom(8) + b"\0" * 50)
    check_refused(path, "not-safetensors")


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    text = json.dumps({"a": one()}).encode()
    text += b" " * (0x0280 - len(text))  # a length of 0x0280 is the bytes 80 02: a pickle's first
    raw_file(tmp_path / "a.safetensors", text, GOOD)
    assert open_safetensors(tmp_path / "a.safetensors").tensor("a").tolist() == [0, 0]


def test_no_file_a_folder_no_permission(tmp_path, monkeypatch):
    check_refused(tmp_path / "no.safetensors", "not-found")
    check_refused(tmp_path, "unreadable")
    (tmp_path / "a.safetensors").write_bytes(b"x")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # the superuser may read anything
    assert "Permission denied" in check_refused(tmp_path / "a.safetensors", "unreadable")


def test_an_unknown_dtype_is_listed_and_fails_only_when_read(tmp_path):
    header = {"odd": one("F4", (4,), (0, 2)), "good": one("F32", (2,), (2, 10))}
    file = open_safetensors(raw_file(tmp_path / "a.safetensors", header, bytes(2) + GOOD))
    assert file.entries["odd"].dtype == "F4"
    assert file.tensor("good").tolist() == [0, 0]
    for read in (file.tensor, file.flat, lambda name: list(file.chunks(name, 10))):
        with pytest.raises(InputError, match="F4") as caught:
            read("odd")
        assert caught.value.kind == "unknown-dtype"
    with pytest.raises(InputError, match="no tensor") as caught:
        file.tensor("none")
    assert caught.value.kind == "no-tensor"


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    for content in (data, len(data).to_bytes(8, "little") + data, (len(data) + 1).to_bytes(8, "little") + b"{" + data):
        path.write_bytes(content)
        try:
            open_safetensors(path)
        except ToolError as error:
            assert "\n" not in error.message


def test_importing_needs_the_standard_library_only():
    ours = "_toolio.tensors.reader, _toolio.tensors.writer, _toolio.files.atomic"
    code = f"import sys, {ours}; print({{'numpy', 'torch', 'safetensors'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
