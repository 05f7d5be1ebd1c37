"""Words that lines at the end of a run share."""

from __future__ import annotations


def many(count: int, what: str) -> str:
    """Return a number and its noun, in the plural where it is not 1."""
    return f"{count:,} {what}{'s' if count != 1 else ''}"
