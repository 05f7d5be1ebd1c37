"""Words and lines that name tensors."""

from __future__ import annotations

import pytest

from _toolio.errors import UsageError
from berttools.tuning.parameter_names import parse_freeze, parse_groups, parse_layers, read_named


def test_words_of_options() -> None:
    assert parse_groups("Q, K,Q") == ("Q", "K")
    assert parse_layers("0,8-10") == {0, 8, 9, 10}
    assert parse_freeze(["Q,K", "^embed", "O"]) == (("^embed",), ("Q", "K", "O"))
    for wrong in (lambda: parse_groups("Q,X"), lambda: parse_layers("3-1"), lambda: parse_layers("-"),
                  lambda: parse_freeze(["(("])):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()


def test_lines_are_names_or_records() -> None:
    found = read_named(
        [b"a.weight\n", b"\n", b'{"by":"group","group":"Q","layer":null}\n', b'{"name":"b","part":null}']
    )
    assert [(each.name, each.layer, each.group, each.where) for each in found] == [
        ("a.weight", None, None, "stdin, line 1"),
        (None, None, "Q", "stdin, line 3"),
        ("b", None, None, "stdin, line 4"),
    ]
    with pytest.raises(UsageError, match="only -: stdin names no tensor"):
        read_named([b"\n"])
    with pytest.raises(UsageError, match="only -: stdin, line 1: the record's part is no axis, start and stop"):
        read_named([b'{"name":"b","part":{"axis":0}}'])
