"""Tensor files of extractors and embeddings: the library's bytes are ours, and what it reads."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from _toolio.errors import ToolError
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.extractors.tensor_files import load_array, save_tensors

METADATA = {"schema": "x/1", "name": 'é"\\\ud800', "numbers": [1, 2.5], "none": None}


@pytest.mark.parametrize(
    "tensors",
    [
        {"embeddings": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"embeddings": np.zeros((0, 128), np.float32)},
        {"b": np.ones((3, 2), np.float16), "a.weight": np.zeros(5, np.float16), "steps": np.array(3)},
        {"conv": np.arange(24, dtype=np.float32).reshape(2, 3, 4).T, "n": np.array(7, np.int64)},
        {"graph": np.arange(13, dtype=np.uint8)},
    ],
)
def test_files_have_the_same_bytes_by_the_library_and_by_the_streaming_writer(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    save_tensors(tmp_path / "library.safetensors", tensors, METADATA)
    write_safetensors(tmp_path / "own.safetensors", tensors, METADATA)
    assert (tmp_path / "library.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()
    assert read_metadata(tmp_path / "library.safetensors") == METADATA
    for name, array in tensors.items():
        loaded = load_array(tmp_path / "library.safetensors", name)
        assert (loaded.dtype, loaded.shape, loaded.tolist()) == (array.dtype, array.shape, array.tolist())


def test_what_numpy_lacks_and_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2)}, path)
    assert load_array(path, "b").tolist() == [1.0, 1.0]
    with pytest.raises(ToolError, match=r"x\.safetensors: cannot read dtype BF16 of a"):
        load_array(path, "a")
    with pytest.raises(ToolError, match=r"x\.safetensors: no tensor other"):
        load_array(path, "other")


def test_what_is_loaded_stays_when_the_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": np.arange(1000, dtype=np.float32)}, {})
    array = load_array(path, "a")
    with path.open("r+b") as file:
        file.truncate(0)
    assert array.tolist() == list(range(1000))


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": np.arange(10, dtype=np.float32)}, {})
    whole = path.read_bytes()
    for data, message in ((whole[:-4], "cut short"), (whole[:20], "cut short"), (b"<html>", "looks like a web page")):
        path.write_bytes(data)
        with pytest.raises(ToolError, match=message):
            load_array(path, "a")
    # The library alone minds what follows the last tensor.
    path.write_bytes(whole + b"more")
    with pytest.raises(ToolError, match=r"x\.safetensors: bad header: .*; save the file again"):
        load_array(path, "a")


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"nowhere does not exist"):
        save_tensors(tmp_path / "nowhere" / "x.safetensors", {"a": np.ones(3)}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_tensors(tmp_path / "x.safetensors", {"a": np.ones(3)}, {"nan": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ToolError, match=r"x\.safetensors: .*File too large") as caught:
            save_tensors(tmp_path / "x.safetensors", {"a": np.ones(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.kind == "unwritable"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_who_may_read_a_file_is_the_users_choice(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "x.safetensors", {"a": np.zeros(1, np.float32)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
