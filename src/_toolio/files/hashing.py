"""Digests of files and bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of_files(*paths: Path) -> str:
    """Give the sha256 of files, one behind the other, in hexadecimal; OSError if one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """Hash the bytes of an input or an output."""
    return hashlib.sha256(data).hexdigest()
