"""What people take for a file of tensors by mistake, known by its first bytes, and what to do about it."""

from __future__ import annotations

from pathlib import Path

POINTER = b"version https://git-lfs"
"""How a Git LFS pointer begins."""

_IS_POINTER = "it is a Git LFS pointer, fetch the file with `git lfs pull`"
_NEITHER = (
    (POINTER, _IS_POINTER),
    (b"\x89HDF", "it is an HDF5 file: convert it to safetensors"),
    (b"GGUF", "it is a GGUF file: convert it to safetensors"),
    (b"<", "it looks like a web page: download it again"),
)
_TORCHS = (
    (b"PK\x03\x04", "it is a zip, as torch.save writes: name it .bin, or save it as safetensors"),
    *(
        (b"\x80" + bytes([protocol]), "it is a pickle: load it where you trust it and save it as safetensors")
        for protocol in (2, 3, 4, 5)
    ),
)


def advice_about(start: bytes, *, torchs: bool = False) -> str | None:
    """Return what a file is, and what to do, that begins with `start`, if it is known and no file of tensors.

    Parameters
    ----------
    start
        The first bytes, 9 or more.
    torchs
        A file of ``torch.save`` is expected, else one of safetensors.
    """
    if torchs and start[8:9] == b"{" and start[5:8] == bytes(3):
        return "it is a safetensors file: name it .safetensors"
    return next(
        (advice for magic, advice in (*_NEITHER, *(() if torchs else _TORCHS)) if start.startswith(magic)), None
    )


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, for `advice_about`; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError:
        return b""


def pointer_advice(path: Path) -> str | None:
    """Return what to do about a file that is a Git LFS pointer; None for any other."""
    return _IS_POINTER if first_bytes(path).startswith(POINTER) else None
