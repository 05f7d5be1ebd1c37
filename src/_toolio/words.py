"""Numbers and their nouns, for lines that people read."""

from __future__ import annotations


def many(count: int, what: str) -> str:
    """Return a number and its noun, in the plural where it is not 1: ``1 face``, ``1,200 faces``."""
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def printable(text: str) -> str:
    """Return a text with control characters and undecodable bytes escaped, so that a name cannot drive a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )
