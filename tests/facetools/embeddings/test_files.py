"""Files of embeddings: written once, read with one set of checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from _toolio.errors import ToolError
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.embeddings.files import check_finite, is_safetensors, read_embeddings, write_embeddings

ROWS = [{"path": f"in/{name}", "relative": name, "face": 0, "sha256": "f" * 64} for name in ("a/1.jpg", "b/1.jpg")]
ABOUT = {"extractor": {"name": "net", "sha256": "d" * 64, "distance": "cosine"}, "rows": ROWS, "version": "1"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path, values = tmp_path / "e.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3)
    write_embeddings(path, values, ABOUT)
    read = read_embeddings(path)
    assert read.values.dtype == np.float32
    assert read.values.tolist() == values.tolist()
    assert (read.rows, read.extractor) == (ROWS, ABOUT["extractor"])
    assert read_metadata(path) == {**ABOUT, "schema": "facetools.embed/1"}
    assert is_safetensors(str(path))
    assert not is_safetensors("-")
    (tmp_path / "e.jsonl").write_text('{"row": 0}\n')
    assert not is_safetensors(str(tmp_path / "e.jsonl"))


def test_the_bytes_are_those_of_the_streaming_writer(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 128)).astype(np.float32)
    write_embeddings(tmp_path / "a.safetensors", values, ABOUT)
    write_safetensors(tmp_path / "b.safetensors", {"embeddings": values}, {**ABOUT, "schema": "facetools.embed/1"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_files_that_are_none_of_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_safetensors(path, {"embeddings": np.ones((2, 3), np.float32)}, {"schema": "facetools.embedding/1"})
    with pytest.raises(ToolError, match="not a file of embeddings; make one with `facetools embed`"):
        read_embeddings(path)
    write_safetensors(path, {"other": np.ones((2, 3), np.float32)}, {**ABOUT, "schema": "facetools.embed/1"})
    with pytest.raises(ToolError, match=r"e\.safetensors: no tensor embeddings") as caught:
        read_embeddings(path)
    assert caught.value.exit_code == 1
    write_embeddings(path, np.ones((3, 3), np.float32), ABOUT)
    with pytest.raises(ToolError, match="3 embeddings, but its metadata names 2 faces"):
        read_embeddings(path)


def test_an_embedding_with_nan_or_infinity() -> None:
    check_finite(np.ones(3), "e", "in/a.jpg")
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ToolError, match=r"e: the embedding of in/a\.jpg is not finite"):
            check_finite(np.array([1.0, value]), "e", "in/a.jpg")
