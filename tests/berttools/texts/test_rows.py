"""Rows of data sets: which column is what, and windows of lines."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.texts.rows import Columns, parse_columns, rows_of, windows_of


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


@pytest.mark.parametrize(
    "text", [json.dumps({"id2label": {"0": "a"}}, indent=2), json.dumps([{"text": "x"}]), "a\nb\n"]
)
def test_a_file_without_any_record_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    for read in (rows_of, windows_of):
        with pytest.raises(ToolError, match=r"config\.json: not JSON lines: no line is a record; give one") as raised:
            list(read(str(path), Columns({})))
        assert raised.value.kind == "bad-record"
    with path.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(ToolError, match="stdin: not JSON lines"):
            list(rows_of("-", Columns({})))


def test_one_record_makes_a_file_one_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n{\n\n\xef{}\n{"text":"x"}\n')
    rows = list(rows_of(str(path), Columns({})))
    assert [(row.where.rpartition(" ")[2], row.error is None) for row in rows] == [
        ("2", False),
        ("4", False),
        ("5", True),
    ]
    path.write_bytes(b"\xef\xbb\xbf{}\n")
    assert [row.error for row in rows_of(str(path), Columns({}))] == [None]
    path.write_bytes(b"\n \n")
    assert list(rows_of(str(path), Columns({}))) == []
