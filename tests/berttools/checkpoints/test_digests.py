"""Digests follow from names, dtypes, shapes and values, and from nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from berttools.checkpoints.digests import base_digest, combined_digest, tensor_digest, tokenizer_digest, tokenizer_of
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
