"""Rows of data sets: which column is what, and windows of lines."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from _toolio.errors import UsageError
from berttools.texts.rows import Columns, parse_columns, windows_of


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("words=x", "'words' is none of text"), ("text=a,text=b", "text is there twice"), ("text=", "say text=NAME"),
        ("text,text_a", "text alone"), ("text_b=x", "needs text_a"), ("-,-", "count the columns"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_columns(text)


def test_windows_come_as_soon_as_lines_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(os.fdopen(read, "rb")))
    windows = windows_of("-", Columns({}))
    os.write(write, b'{"text":"one"}\n{"text":"tw')
    # Nobody closes the pipe: a reader that waited for more would wait for ever.
    guard = threading.Timer(60, os.close, (write,))
    guard.start()
    assert [row.fields["text"] for row in next(windows)] == ["one"]
    assert guard.is_alive()
    os.write(write, b'o"}\n\nbroken')
    assert [row.fields["text"] for row in next(windows)] == ["two"]
    guard.cancel()
    os.close(write)
    (last,) = [row for window in windows for row in window]
    assert last.where == "stdin, line 4"
    assert last.error is not None


def test_long_inputs_are_cut_into_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"x"}\n' * 1100)
    sizes = [len(window) for window in windows_of(str(path), Columns({}))]
    assert sum(sizes) == 1100
    assert max(sizes) < 1000
