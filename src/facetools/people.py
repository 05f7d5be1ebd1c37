"""Name the person in a photo by the folder that it lies in."""

from __future__ import annotations

import unicodedata

from _toolio.files.hashing import text_digest


def person_of(relative: str) -> str:
    """Name the person of a photo by its folder; a photo without one is a person of its own.

    Layouts ``<person>/<photo>`` and ``<person>/face/<photo>`` both give the person: a folder called ``face``
    names nobody.
    """
    folders = folders_of(relative)
    return folders[-1] if folders else photo_of(relative).rpartition("/")[2]


_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"),
    *(".avif", ".ppm", ".pgm", ".jp2", ".mpo"),
)


def photo_of(relative: str) -> str:
    """Name a photo by its path without the endings of files: that of a copy in another format is the same.

    ``ann/1.jpg``, ``ann/1.png`` and ``ann/1.jpg.png`` are ``ann/1``; ``ann/1.2024.jpg`` is ``ann/1.2024``.
    """
    while relative.lower().endswith(_ENDINGS):
        shorter = relative.rpartition(".")[0]
        if not shorter or shorter.endswith("/"):
            break
        relative = shorter
    return relative


def folders_of(relative: str) -> tuple[str, ...]:
    """Return the folders that may name people, outermost first."""
    return tuple(part for part in relative.split("/")[:-1] if part != "face")


def person_in(path: str, relative: str) -> str:
    """Name the person of a photo by its folder below the input, or by the input folder itself.

    Photos below an input ``people/`` have their folder's name; those of the inputs ``me/``, ``me/1.jpg`` and
    ``me/face/`` are of ``me``.
    """
    named = any(part != "face" for part in relative.split("/")[:-1])
    return person_of(relative if named else path)


def lot_of(person: str, seed: int) -> int:
    """Return a person's hash, 0 to 2^64 - 1: the same for every folder and run, and Unicode form of the name."""
    drawn = text_digest(f"{seed} {composed(person)}")
    return int.from_bytes(drawn[:8], "big")


def is_held_out(person: str, seed: int, share: float) -> bool:
    """Return whether a person is held out, pseudo-randomly by seed and name, with probability ``share``."""
    return lot_of(person, seed) < share * 2**64


def composed(name: str) -> str:
    """Return a name with each accent and its letter as one character (NFC): disks and archives of Macs part them."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return the normal form of a name, equal for names that differ only in case or Unicode form."""
    return unicodedata.normalize("NFKC", name).casefold()
