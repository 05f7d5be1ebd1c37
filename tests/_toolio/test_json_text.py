"""JSON that somebody else may have written, and where it is read."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _toolio.json_text import DEEPEST, TooDeepError, parse_json
from conftest import ROOT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", [b"", b"{broken", b"\xff\xfe", "9" * 5000, "[1,]", b"[" * 50])
def test_what_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert not isinstance(caught.value, TooDeepError)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 900, 9_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_too_deep(levels: int, opened: str, closed: str) -> None:
    text = opened * levels + "1" + closed * levels
    for each in (text, text.encode()):
        with pytest.raises(TooDeepError, match="nested more than 100 deep"):
            parse_json(each)
    assert parse_json(opened * DEEPEST + "1" + closed * DEEPEST)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert parse_json('"' + "[" * 1000 + '"') == "[" * 1000


# What this process has made itself, and pieces of a header that are short.
OWN = {
    "_toolio/compute/checkpoints.py",
    "_toolio/compute/distributed.py",
    "_toolio/files/journal.py",
    "_toolio/json_text.py",
    "_toolio/tensors/header.py",
    "berttools/masks/writer.py",
    "berttools/tuning/delta.py",
}


def test_nothing_that_others_wrote_is_read_without_a_limit() -> None:
    found = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"\bjson\.loads?\b", path.read_text(encoding="utf-8"))
    }
    assert found == OWN
