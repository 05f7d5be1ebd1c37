"""Digests of files and bytes, beside hashlib's and the published ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from _toolio.files.hashing import sha256_of, sha256_of_files


def test_published_digests() -> None:
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_are_hashed_one_behind_the_other(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(bytes(range(256)) * 5000)  # more than one block
    two.write_bytes(b"end")
    assert sha256_of_files(one, two) == hashlib.sha256(one.read_bytes() + b"end").hexdigest()
    assert sha256_of_files(two, one) != sha256_of_files(one, two)
    assert sha256_of_files() == sha256_of(b"")
    with pytest.raises(FileNotFoundError):
        sha256_of_files(one, tmp_path / "gone")
