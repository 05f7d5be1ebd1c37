"""Spellings of labels: lists in strings, classes joined in one string, and names that are almost equal."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from _toolio.json_text import TooDeepError, parse_json

_PARSE_ERRORS = (ValueError, SyntaxError, RecursionError, MemoryError)
_BRACKETED = re.compile(r"(?P<call>[\w.]*)(?P<outer>\[.*\]|\{.*\}|\(.*\))", re.DOTALL)
_BEGUN = re.compile(r"""[\w.]*[\[({]+\s*[bru]?["']""")
"""A bracket and a string in quotes, whatever follows."""
_TOUCHING = re.compile(r"""["']\s*[bru]?["']""")
_VECTOR = re.compile(r"(?:[+-]?[\d.][\d.e+-]*|true|false)(?:[\s;|]+(?:[+-]?[\d.][\d.e+-]*|true|false))+[\s;|]*", re.I)
_PLAIN = re.compile(r"[+-]?\d+(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+,\s*\d+|\d{1,3}(?:[,.'\u2019\s]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)?)")
"""A number as spreadsheets write it: with a decimal comma, or with thousands parted."""
_MAKERS = {"array", "c", "frozenset", "Index", "list", "set", "tensor", "tuple"}
"""What NumPy, pandas, Python, R and torch write before the brackets."""


def list_in(text: str) -> list[Any] | None:
    """Return the list that a string writes down, as JSON or as Python prints it; None if it writes none.

    ``['a' 'b']``, as NumPy prints an array, is none: Python would join the two strings.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (parse_json, ast.literal_eval):
        if parse is ast.literal_eval and _lacks_comma(text):
            return None
        try:
            found = parse(text)
        except TooDeepError:
            return None
        except _PARSE_ERRORS:
            continue
        return found if isinstance(found, list) else None
    return None


def _lacks_comma(text: str) -> bool:
    """Test whether two strings in quotes follow each other."""
    if not _TOUCHING.search(text):
        return False
    try:
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (tokenize.TokenError, SyntaxError):
        return False
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.NEWLINE)]
    return (tokenize.STRING, tokenize.STRING) in pairwise(kinds)


def odd_list(text: str) -> str | None:
    """Return what is wrong with a string that writes classes down as no list that can be read; None if it does not.

    Such are a NumPy array, a vector, a set, a tuple, and words with commas between them in brackets. One word in
    brackets is a name, as are several with spaces only.
    """
    text = text.strip()
    if list_in(text) is not None:
        return None
    if _BEGUN.match(text):
        what = "has no comma between classes" if _lacks_comma(text) else "is no list that can be read"
    elif (found := _BRACKETED.fullmatch(text)) and _is_odd(found["call"], found["outer"][1:-1].strip()):
        what = "is no list that can be read"
    else:
        return None
    return f'{what}; write classes of one text as ["animal","time"], and [] for none'


def _is_odd(maker: str, inner: str) -> bool:
    if maker:
        return maker.rpartition(".")[2] in _MAKERS and (not inner or "," in inner or inner[0] in "[({")
    return not inner or "," in inner or _VECTOR.fullmatch(inner) is not None


def is_like(name: str, other: str) -> bool:
    """Test whether two names differ, but by case, spaces or the coding of accents alone."""
    return name != other and _folded(name) == _folded(other)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def almost_equal(names: Iterable[str]) -> str | None:
    """Return what to warn of where two classes may be meant for one; None if there are no such."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(_folded(name), name)) != name:
            return f"classes {other!r} and {name!r} differ by case or spaces alone, and are taken for two"
    return None


def joined(names: Iterable[str]) -> str | None:
    """Return what to warn of where single classes may be meant for several; None if there are no such."""
    known = {*names}
    for mark in ";|,":
        parts = {name: {part.strip() for part in name.split(mark)} for name in known if mark in name}
        times = Counter(part for each in parts.values() for part in each)
        times.update(known - parts.keys())
        # A comma may be part of a name: there all parts must be in other labels too.
        enough = all if mark == "," else any
        if name := min((name for name, each in parts.items() if enough(times[part] > 1 for part in each)), default=""):
            return (
                f"labels such as {name!r:.80} have {mark!r} between words that are in other labels too: each is taken"
                ' for one class; write classes of one text as ["animal","time"]'
            )
    return None


def number_spelled(text: str) -> tuple[str, ...]:
    """Return what a number that only people can read may be, as a program writes it; empty for any other string.

    Such have a decimal comma (3,5), parted thousands (1,200.5 or 1 200), a percent sign or that of a currency. 1,200
    may be a thousand and two hundred, or a little more than one; 1.200 is what it is to a program.
    """
    bare = text.strip().strip("%\u20ac$\u00a3").strip()
    if _PLAIN.fullmatch(text.strip()) or not _NUMBER.fullmatch(bare):
        return ()
    digits = re.sub(r"['\u2019\s]", "", bare)
    last = max(digits.rfind(","), digits.rfind("."))
    mark = digits[last] if last >= 0 else ""
    whole, after = re.sub(r"[,.]", "", digits[:last]), digits[last + 1 :]
    if not mark:
        return (digits,)
    if digits.count(mark) > 1:
        return (whole + after,)
    both = mark == "," and len(after) == 3 and digits.count(",") + digits.count(".") == 1
    return (whole + after, f"{whole}.{after}") if both else (f"{whole}.{after}",)
