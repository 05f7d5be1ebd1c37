"""Names of cloaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import UsageError
from facetools.names import parse_cloaked, short_names


def test_a_name_is_what_stands_before_the_first_equals_sign() -> None:
    assert parse_cloaked("lowkey=a/b=c") == ("lowkey", "a/b=c")
    assert parse_cloaked("a/b/") == ("a/b", "a/b/")
    assert parse_cloaked("=a/b") == ("=a/b", "=a/b")


def test_what_exists_as_it_stands_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "x=y"
    folder.mkdir()
    assert parse_cloaked(str(folder)) == (str(folder), str(folder))


def test_a_name_without_a_path() -> None:
    with pytest.raises(UsageError, match=r"^cloaked lowkey=: give NAME=PATH, such as lowkey=cloaked/$"):
        parse_cloaked("lowkey=")


def test_paths_are_shortened_to_what_tells_them_apart() -> None:
    assert short_names(["a/x/clean", "a/y/clean", "b/z"]) == {
        "a/x/clean": "x/clean",
        "a/y/clean": "y/clean",
        "b/z": "z",
    }
    assert short_names(["p/lowkey+q/fawkes", "p/lowkey"]) == {
        "p/lowkey+q/fawkes": "lowkey+fawkes",
        "p/lowkey": "lowkey",
    }
    # Where one path is the end of another, no part of it can be left out.
    assert short_names(["clean", "a/clean"]) == {"clean": "clean", "a/clean": "a/clean"}
