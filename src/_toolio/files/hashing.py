"""Digests of files and bytes. hashlib is imported where it is used: with its library it takes 3 ms."""

from __future__ import annotations

from pathlib import Path


def sha256_of_files(*paths: Path) -> str:
    """Return the sha256 of the concatenated files, in hexadecimal; OSError if one cannot be read."""
    import hashlib

    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """Return the sha256 of bytes, in hexadecimal."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def text_digest(text: str) -> bytes:
    """Return the sha256 of a text, 32 bytes; draws that depend on a name, which may be no UTF-8, are seeded by it."""
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
