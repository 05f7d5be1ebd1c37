"""Numbers and their nouns."""

from __future__ import annotations

import pytest

from _toolio.words import many, printable


def test_a_noun_is_in_the_plural_but_for_one() -> None:
    said = [many(count, "clean face") for count in (0, 1, 2, 1200)]
    assert said == ["0 clean faces", "1 clean face", "2 clean faces", "1,200 clean faces"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 字.jpg", "plain é 字.jpg"),
        ("\x1b]0;t\x07", "\\x1b]0;t\\x07"),
        ("a\nb", "a\\nb"),
        ("\udcff", "\\udcff"),
        ("\u202ejpg", "\\u202ejpg"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
