"""Choices and counts of configurations."""

from __future__ import annotations

from enum import StrEnum

import pytest

from _toolio.choices import choice_of, refuse_below_one
from _toolio.errors import UsageError


class Colour(StrEnum):
    red = "red"
    dark_blue = "dark-blue"


def test_a_choice_is_a_member_or_its_text() -> None:
    assert choice_of(Colour, "dark-blue", "colour") is Colour.dark_blue
    assert choice_of(Colour, Colour.red, "colour") is Colour.red
    with pytest.raises(UsageError) as raised:
        choice_of(Colour, "dark_blue", "colour")
    assert raised.value.message == "colour dark_blue: is none of red, dark-blue"


def test_a_count_is_at_least_one_or_none() -> None:
    refuse_below_one(1, "batch")
    refuse_below_one(None, "batch")
    with pytest.raises(UsageError, match="batch 0: is less than 1"):
        refuse_below_one(0, "batch")
