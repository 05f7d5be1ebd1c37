"""Numbers and their nouns."""

from __future__ import annotations

from _toolio.words import many


def test_a_noun_is_in_the_plural_but_for_one() -> None:
    said = [many(count, "clean face") for count in (0, 1, 2, 1200)]
    assert said == ["0 clean faces", "1 clean face", "2 clean faces", "1,200 clean faces"]
