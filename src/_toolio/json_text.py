"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 100
"""How deep values may be nested: what walks them does so by recursion, and Python's stack has an end."""


class TooDeepError(ValueError):
    """A value is nested deeper than ``DEEPEST``."""


def parse_json(text: str | bytes) -> Any:
    """Parse one JSON value.

    Raises
    ------
    ValueError
        It is no JSON; `TooDeepError` if it is nested deeper than ``DEEPEST``.
    """
    too_deep = f"nested more than {DEEPEST} deep"
    try:
        value = json.loads(text)
    except RecursionError:
        raise TooDeepError(too_deep) from None
    # Counting brackets costs nothing beside parsing; walking the value would double it.
    if _brackets(text) > DEEPEST and not _is_shallow(value, DEEPEST):
        raise TooDeepError(too_deep)
    return value


def _brackets(text: str | bytes) -> int:
    return text.count("{") + text.count("[") if isinstance(text, str) else text.count(b"{") + text.count(b"[")


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(
        _is_shallow(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )
