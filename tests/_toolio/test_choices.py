"""Choices and counts of configurations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from _toolio.choices import choice_of, list_fields, refuse_below_one
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


def test_one_name_stands_for_a_list_of_it() -> None:
    @dataclass(frozen=True)
    class Config:
        names: Sequence[str] = "one"  # as a caller may write it
        paths: Sequence[Path] | None = None
        many: Sequence[str] = ("a", "b")

    config = Config(paths=Path("x"))  # type: ignore[arg-type]
    list_fields(config, "names", "paths", "many")
    assert (config.names, config.paths, config.many) == (["one"], [Path("x")], ("a", "b"))
    list_fields(config := Config(), "paths")
    assert config.paths is None
