"""Digests follow from names, dtypes, shapes and values, and from nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from _toolio.errors import ToolError
from berttools.checkpoints import digests
from berttools.checkpoints.digests import (
    DigestCache,
    base_digest,
    combined_digest,
    tensor_digest,
    tokenizer_digest,
    tokenizer_of,
)
from berttools.checkpoints.files import Checkpoint, open_checkpoint

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float64)


def stored(path: Path, **tensors: np.ndarray) -> Checkpoint:
    save_file(tensors, path)
    return open_checkpoint(path)


def test_a_tensors_digest_is_spelled_out(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", a=A)
    assert tensor_digest(base, "a") == hashlib.sha256(b'["F32", [2, 3]]' + A.tobytes()).hexdigest()
    assert tensor_digest(stored(tmp_path / "other", other=A), "other") == tensor_digest(base, "a"), "whatever its name"
    for changed in (A.reshape(3, 2), A.astype(np.float64), A + 1):
        assert tensor_digest(stored(tmp_path / "changed", a=changed), "a") != tensor_digest(base, "a")


def test_a_bases_digest_does_not_depend_on_its_files(tmp_path: Path) -> None:
    one = stored(tmp_path / "base.safetensors", a=A, b=B)
    for name, tensors in (("x", {"a": A}), ("y", {"b": B})):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert base_digest(open_checkpoint(tmp_path / "model.safetensors.index.json")) == base_digest(one)
    assert base_digest(stored(tmp_path / "renamed", a=A, c=B)) != base_digest(one)


def test_several_digests_in_any_order() -> None:
    assert combined_digest({"a": "1", "b": "2"}) == combined_digest({"b": "2", "a": "1"})
    assert combined_digest({"a": "1", "b": "2"}) != combined_digest({"a": "2", "b": "1"})


def test_a_tokenizers_digest(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "model.safetensors")
    base = open_checkpoint(tmp_path)
    assert tokenizer_of(base) is None
    (tmp_path / "vocab.txt").write_text("good")
    first = tokenizer_of(base)
    assert first == tokenizer_digest(tmp_path) == hashlib.sha256(b"vocab.txt 4 good").hexdigest()
    (tmp_path / "notes.txt").write_text("no part of it")
    assert tokenizer_of(base) == first
    (tmp_path / "merges.txt").write_text("g ood")
    assert tokenizer_of(base) != first


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors whose digests are taken; files count as settled at once."""
    names: list[str] = []

    def counted(base: Checkpoint, name: str) -> str:
        names.append(name)
        return tensor_digest(base, name)

    monkeypatch.setattr(digests, "tensor_digest", counted)
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    return names


def through(cache: Path | None, base: Checkpoint, *names: str) -> list[str]:
    known = DigestCache(cache, base)
    found = [known.tensor_digest(name) for name in names]
    known.write()
    return found


def test_what_is_in_the_cache_is_not_computed_again(tmp_path: Path, taken: list[str]) -> None:
    base, cache = stored(tmp_path / "base", a=A, b=B), tmp_path / "cache.json"
    first = through(cache, base, "a")
    assert first == [tensor_digest(base, "a")]
    assert through(cache, base, "a", "b", "b") == [*first, *[tensor_digest(base, "b")] * 2]
    assert taken == ["a", "b"]
    other = stored(tmp_path / "other", a=A + 1)
    assert through(cache, other, "a") == [tensor_digest(other, "a")] != first
    assert through(cache, base, "a", "b") == [tensor_digest(base, name) for name in "ab"], "both files are known"
    assert taken == ["a", "b", "a"]
    assert through(None, base, "a") == first
    assert taken[3:] == ["a"], "without a cache"


def test_a_base_that_was_changed_is_read_again(tmp_path: Path, taken: list[str]) -> None:
    path, cache = tmp_path / "base", tmp_path / "cache.json"
    through(cache, stored(path, a=A), "a")
    times = path.stat()
    with path.open("r+b") as file:  # the same inode, the same size, and the time set back
        file.seek(-4, os.SEEK_END)
        file.write(b"abcd")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    base = open_checkpoint(path)
    assert through(cache, base, "a") == [tensor_digest(base, "a")]
    assert taken == ["a", "a"]


def test_nothing_is_kept_of_a_base_that_is_being_changed(
    tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "base", tmp_path / "cache.json"
    known = DigestCache(cache, stored(path, a=A))
    known.tensor_digest("a")
    save_file({"a": A + 1}, path)
    known.write()
    assert json.loads(cache.read_bytes())["files"] == {}
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**18)  # the file was written just now
    through(cache, open_checkpoint(path), "a")
    assert json.loads(cache.read_bytes())["files"] == {}
    assert taken == ["a", "a"]


def test_nothing_is_kept_of_a_base_that_changed_just_before_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in the tick of the clock in which the file was looked at shows in no time, however long the run."""
    cache, now = tmp_path / "cache.json", time.time_ns()
    known = DigestCache(cache, stored(tmp_path / "base", a=A))
    known.tensor_digest("a")
    monkeypatch.setattr(digests.time, "time_ns", lambda: now + 10**12)
    known.write()
    assert json.loads(cache.read_bytes())["files"] == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"important",
        b"[]",
        b'{"schema": "other/1", "files": {}}',
        b'{"schema": "berttools.digests/1"}',
        b'{"schema": "berttools.digests/1", "files": {"1:2": {"identity": [1], "tensors": {"a": "no sha256"}}}}',
    ],
)
def test_another_file_is_no_cache_and_stays(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(text)
    with pytest.raises(ToolError, match="is no cache of digests"):
        DigestCache(tmp_path / "notes.txt", stored(tmp_path / "base", a=A))
    assert (tmp_path / "notes.txt").read_bytes() == text
