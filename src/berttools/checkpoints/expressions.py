"""Match names against regular expressions that come with models, in time that no expression can make long.

Python's own matcher tries one way after the other, and there may be exponentially many. Here all ways are followed at
once: from the set of places that one part of an expression may end at to that of the next (Thompson, "Regular
Expression Search Algorithm", CACM 11(6), 1968).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_LONGEST = 500
_DEEPEST = 20

Places = frozenset[int]
Step = Callable[[str, Places], Places]
"""Places in a text where a part of an expression may end, of those where it begins."""


class NotPlainError(ValueError):
    """An expression that is not matched here; the message completes "which"."""


@lru_cache(maxsize=1024)
def compile_expression(text: str) -> Callable[[str], bool]:
    """Return a test for what `re.match` finds a match of.

    Raises
    ------
    NotPlainError
        It has more than 500 characters, refers back to groups, repeats what repeats, changes flags, or has other parts
        that names need not.
    re.error
        It is no regular expression.
    """
    if len(text) > _LONGEST:
        raise NotPlainError(f"has {len(text)} characters, and at most {_LONGEST} are read")
    try:
        re.compile(text)
        # What re itself parses with; no other module of the standard library does.
        parsed = importlib.import_module("re._parser").parse(text)
        if parsed.state.flags != re.UNICODE:
            raise NotPlainError("changes flags")
        step = _sequence(parsed, 0, repeated=False)
    except (RecursionError, OverflowError):
        raise NotPlainError("is nested too deep") from None
    except (ImportError, AttributeError, TypeError):
        raise NotPlainError("is not read with this version of Python") from None
    return lambda name: bool(step(name, frozenset({0})))


def _sequence(parsed: Any, depth: int, *, repeated: bool) -> Step:
    if depth > _DEEPEST:
        raise NotPlainError("is nested too deep")
    steps = [_step(str(kind), argument, depth, repeated=repeated) for kind, argument in parsed]

    def run(text: str, places: Places) -> Places:
        for step in steps:
            if not places:
                break
            places = step(text, places)
        return places

    return run


def _step(kind: str, argument: Any, depth: int, *, repeated: bool) -> Step:
    if kind in _CHARACTERS or kind == "IN":
        return _one(_character(kind, argument))
    if kind == "AT" and str(argument) in _PLACES:
        return _keep(_PLACES[str(argument)])
    if kind == "SUBPATTERN" and not any(argument[1:3]):
        return _sequence(argument[3], depth + 1, repeated=repeated)
    if kind == "BRANCH":
        ways = [_sequence(way, depth + 1, repeated=repeated) for way in argument[1]]
        return lambda text, places: frozenset[int]().union(*(way(text, places) for way in ways))
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, part = argument
        if high > 1 and repeated:
            raise NotPlainError("repeats what repeats")
        return _repeat(_sequence(part, depth + 1, repeated=repeated or high > 1), int(low), int(high))
    if kind in ("ASSERT", "ASSERT_NOT") and argument[0] > 0:
        ahead, wanted = _sequence(argument[1], depth + 1, repeated=repeated), kind == "ASSERT"
        return _keep(lambda text, place: bool(ahead(text, frozenset({place}))) == wanted)
    if kind.startswith("GROUPREF"):
        raise NotPlainError("refers back to a group")
    raise NotPlainError(f"has a part that is not read ({kind.lower()})")


def _one(matches: Callable[[str], bool]) -> Step:
    return lambda text, places: frozenset(place + 1 for place in places if place < len(text) and matches(text[place]))


def _keep(holds: Callable[[str, int], bool]) -> Step:
    return lambda text, places: frozenset(place for place in places if holds(text, place))


def _repeat(step: Step, low: int, high: int) -> Step:
    def run(text: str, places: Places) -> Places:
        for _ in range(low):
            before, places = places, step(text, places)
            if places == before:
                break
        found = new = places
        for _ in range(low, high):
            new = step(text, new) - found
            if not new:
                break
            found |= new
        return found

    return run


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _at_word(text: str, place: int) -> bool:
    before, behind = (0 <= each < len(text) and _is_word(text[each]) for each in (place - 1, place))
    return before != behind


_PLACES: dict[str, Callable[[str, int], bool]] = {
    "AT_BEGINNING": lambda _, place: place == 0,
    "AT_BEGINNING_STRING": lambda _, place: place == 0,
    "AT_END": lambda text, place: text[place:] in ("", "\n"),
    "AT_END_STRING": lambda text, place: place == len(text),
    "AT_BOUNDARY": _at_word,
}
_CATEGORIES: dict[str, Callable[[str], bool]] = {"DIGIT": str.isdecimal, "SPACE": str.isspace, "WORD": _is_word}
_CHARACTERS: dict[str, Callable[[Any], Callable[[str], bool]]] = {
    "ANY": lambda _: lambda character: character != "\n",
    "LITERAL": lambda code: lambda character: ord(character) == code,
    "NOT_LITERAL": lambda code: lambda character: ord(character) != code,
    "RANGE": lambda ends: lambda character: ends[0] <= ord(character) <= ends[1],
    "CATEGORY": lambda name: _category(str(name)),
}


def _character(kind: str, argument: Any) -> Callable[[str], bool]:
    if kind != "IN":
        return _CHARACTERS[kind](argument)
    negated = str(argument[0][0]) == "NEGATE"
    tests = [_character(str(kind), what) for kind, what in argument[negated:]]
    return lambda character: any(test(character) for test in tests) != negated


def _category(name: str) -> Callable[[str], bool]:
    bare = name.removeprefix("CATEGORY_")
    test = _CATEGORIES.get(bare.removeprefix("NOT_"))
    if test is None:
        raise NotPlainError(f"has a part that is not read ({name.lower()})")
    return (lambda character: not test(character)) if bare.startswith("NOT_") else test
