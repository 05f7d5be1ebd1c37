"""Rows of data sets: which column is what, and windows of lines."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.streams import reading
from _toolio.streams.forms import csv_cell, csv_line
from berttools.texts import rows as rows_module
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


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reading, rows_module):
        monkeypatch.setattr(module, "MAX_LINE", 100)
    for name in ("MAX_SKIPPED", "_BLOCK"):
        monkeypatch.setattr(reading, name, 100)


LONG = json.dumps({"text": "x" * 150})


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "-"])
def test_a_line_that_is_too_long_is_an_error_and_the_others_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f'{{"text":"a"}}\n{LONG}\n{{"text":"b"}}\n'.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    path = tmp_path / name
    path.write_bytes(data)
    first, long, last = [row for window in windows_of("-" if name == "-" else str(path), Columns({})) for row in window]
    assert (first.error, last.error) == (None, None)
    assert isinstance(long.error, InputError)
    assert long.error.kind == "too-large"
    assert long.error.message.partition(", ")[2].startswith("line 2: longer than ")


def test_of_a_long_line_on_stdin_the_beginning_alone_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_LINE", 1 << 17)
    for size, ends in ((1 << 22, True), (1 << 24, False)):
        monkeypatch.setattr(rows_module, "MAX_SKIPPED", 1 << 23)
        stream = io.BufferedReader(io.BytesIO(b"a\n" + bytes(size) + b"\nb\n"))
        if ends:
            a, long, b, rest = [line for lines in rows_module._lines_at_hand(stream) for line in lines]
            assert (a, b, rest) == (b"a", b"b", b"")
            assert (1 << 17) < len(long) < (1 << 18)
        else:
            with pytest.raises(ToolError, match="stdin: no text"):
                list(rows_module._lines_at_hand(stream))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_row_of_a_table_that_is_too_long_names_its_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text(f"text\na\n{'x' * 150}\n")
    with pytest.raises(ToolError, match=rf"a\.{kind}, line 3: a row: longer than "):
        list(rows_of(str(path), Columns({})))


@pytest.mark.usefixtures("short")
def test_a_quotation_mark_without_its_pair_does_not_take_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\na\n"b\n' + "c\n" * 1000)
    with pytest.raises(ToolError, match=r"a\.csv, line 5\d: a row: longer than "):
        list(rows_of(str(path), Columns({})))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_named_pipe_is_read_as_a_stream(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    data = '{"text":"x"}\n{"text":"y"}\n' if name == "a.jsonl" else "text\nx\ny\n" if name == "a.csv" else "x\ny\n"
    writer = threading.Thread(target=path.write_text, args=(data,), daemon=True)
    writer.start()
    assert [row.fields for row in rows_of(str(path), Columns({}))] == [{"text": "x"}, {"text": "y"}]
    writer.join()


def test_a_descriptor_without_an_ending_is_read_as_stdin_is() -> None:
    end, start = os.pipe()
    os.write(start, b'{"text":"x"}\n')
    os.close(start)
    assert [row.fields for row in rows_of(f"/dev/fd/{end}", Columns({}))] == [{"text": "x"}]
    os.close(end)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "text;label\ngood;1\n",
            "line 1: columns are separated by ';'; save the table with commas, or with tabs as .tsv",
        ),
        (
            "sep=;\ntext;label\n",
            "line 1: columns are separated by ';'; save the table with commas, or with tabs as .tsv",
        ),
        ("text\tlabel\ngood\t1\n", "line 1: columns are separated by '\\t'; save the table with commas, or"),
        ("text,label\rgood,1\rbad,0\r", "a carriage return without a newline; end lines in newlines"),
    ],
)
def test_a_table_of_another_kind_is_told_so(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    with pytest.raises(ToolError) as raised:
        list(rows_of(str(tmp_path / "a.csv"), Columns({})))
    assert message in raised.value.message


def test_an_error_that_was_written_as_csv_is_read_again(tmp_path: Path) -> None:
    error = {"kind": "no-text", "message": 'the "text" is empty'}
    rows = [["score", "text", "error"], ["", "", csv_cell(error)], ["", "{", '{},"text":"x"'], ["0.5", "", ""]]
    (tmp_path / "a.csv").write_bytes(b"".join(map(csv_line, rows)))
    first, second, third = (row.fields for row in rows_of(str(tmp_path / "a.csv"), Columns({})))
    assert first == {"score": None, "text": None, "error": error}
    assert second == {"score": "", "text": "{", "error": '{},"text":"x"'}
    assert third == {"score": "0.5", "text": "", "error": ""}
