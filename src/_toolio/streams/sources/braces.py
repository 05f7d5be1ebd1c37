"""Expand braces in names as shells and WebDataset write them: ``shards/{000..099}.tar``, ``{train,dev}.tar``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from _toolio.errors import UsageError, param
from _toolio.streams.remote import shown

MOST_NAMES = 1_000_000
"""Names that one may stand for."""

_RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})(?:\.\.(-?[0-9]{1,18}))?")
_LETTERS = re.compile(r"([a-zA-Z])\.\.([a-zA-Z])(?:\.\.(-?[0-9]{1,2}))?")


def expanded(names: Sequence[str]) -> list[str]:
    """Return the names that names stand for; one that a file has, braces and all, stands for itself.

    ``{a,b}`` is each of some words, ``{1..9}`` each whole number, ``{000..099}`` each as wide as the wider of the two,
    ``{0..9..3}`` every third, ``{a..e}`` each letter. Braces may stand beside and inside each other; the last vary
    fastest. What is neither words nor a range stays as it is.

    Raises
    ------
    UsageError
        A name stands for more than ``MOST_NAMES``.
    """
    return [each for name in names for each in ([name] if _is_a_files(name) else _expanded(name))]


def _is_a_files(name: str) -> bool:
    try:
        return "{" not in name or os.path.lexists(name)
    except ValueError:  # a NUL byte
        return True


def _expanded(name: str) -> list[str]:
    found = list(islice(_expansions(name), MOST_NAMES + 1))
    if len(found) > MOST_NAMES:
        raise UsageError(
            f"{param('inputs')} {shown(name)}: stands for more than {MOST_NAMES:,} names; give a list of them"
        )
    return found


def _expansions(text: str) -> Iterator[str]:
    start = text.find("{")
    while start >= 0:
        end = _closing(text, start)
        words = _words(text[start + 1 : end]) if end else None
        if words is not None:
            rest = list(islice(_expansions(text[end + 1 :]), MOST_NAMES + 1))
            yield from (text[:start] + word + behind for word in words for behind in rest)
            return
        start = text.find("{", start + 1)
    yield text


def _closing(text: str, start: int) -> int:
    """Return the place of the brace that closes the one at ``start``; 0 if there is none."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return 0


def _words(text: str) -> Iterator[str] | None:
    """Return what the inside of braces stands for; None where it is neither words nor a range."""
    if match := _RANGE.fullmatch(text):
        first, last, step = match[1], match[2], match[3]
        padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        return (f"{number:0{width}}" for number in _range(int(first), int(last), step))
    if match := _LETTERS.fullmatch(text):
        return map(chr, _range(ord(match[1]), ord(match[2]), match[3]))
    places = [-1, *_commas(text), len(text)]
    if len(places) == 2:
        return None
    parts = [text[begin + 1 : end] for begin, end in pairwise(places)]
    return (word for part in parts for word in _expansions(part))


def _commas(text: str) -> Iterator[int]:
    """Yield the places of the commas that lie in no braces."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            yield place


def _range(first: int, last: int, step: str | None) -> range:
    by = abs(int(step or 1)) or 1
    return range(first, last + 1, by) if first <= last else range(first, last - 1, -by)
