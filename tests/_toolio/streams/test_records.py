"""Records on their way out and back in."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _toolio.errors import InputError, ToolError
from _toolio.json_text import DEEPEST
from _toolio.streams.records import (
    Form,
    Order,
    ReaderGoneError,
    RecordWriter,
    discard_stdout,
    dump_record,
    error_fields,
    parse_record,
    read_records,
    write_out,
    written_as,
)


class Stdout(io.TextIOWrapper):
    """A stdout that is, or is not, a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def shown(self) -> bytes:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stdout]:
    """Put another stdout in place; inside the test, as pytest puts its own there between fixture and test."""

    def put(*, terminal: bool = False) -> Stdout:
        stream = Stdout(terminal=terminal)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", "200")
        return stream

    return put


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, b"0.500000"),
        (1e-7, b"0.000000"),
        (1e20, b"100000000000000000000.000000"),
        (-0.25, b"-0.250000"),
        (np.float32(0.25), b"0.250000"),
        (np.float64(1 / 3), b"0.333333"),
        (7, b"7"),
        (np.int64(7), b"7"),
        (None, b" null"),
        (math.nan, b" null"),
        (-math.inf, b" null"),
        (np.float32("inf"), b" null"),
    ],
)
def test_the_first_field_is_in_fixed_point(value: object, text: bytes) -> None:
    assert dump_record({"score": value, "b": 1}) == b'{"score":' + text + b',"b":1}\n'


def test_decimals_count_for_the_first_field_only() -> None:
    line = dump_record({"angle": 1 / 3, "other": 1 / 3, "tiny": 1e-30}, decimals=12)
    assert line == b'{"angle":0.333333333333,"other":0.3333333333333333,"tiny":1e-30}\n'


def test_plain_sort_ranks_lines_as_numbers() -> None:
    values = [0.9, None, 0.1, 1e-9, 0.5]
    lines = sorted(dump_record({"score": value}) for value in values)
    assert [json.loads(line)["score"] for line in lines] == [None, 0.0, 0.1, 0.5, 0.9]


def test_nan_and_infinity_become_null_at_any_depth() -> None:
    record = {"a": 1, "deep": {"list": [math.nan, (math.inf, -math.inf), np.array([1.0, np.nan])]}}
    assert json.loads(dump_record(record)) == {"a": 1, "deep": {"list": [None, [None, None], [1.0, None]]}}


def test_numpy_paths_and_tuples_become_json() -> None:
    record = {
        "a": np.bool_(True),
        "b": np.arange(4, dtype=np.uint8).reshape(2, 2),
        "c": Path("x") / "y",
        "d": (1, "two"),
        "e": np.float16(0.5),
        "f": np.str_("text"),
        "g": {3: 4},
    }
    read = json.loads(dump_record(record))
    assert read == {"a": True, "b": [[0, 1], [2, 3]], "c": "x/y", "d": [1, "two"], "e": 0.5, "f": "text", "g": {"3": 4}}


def test_what_json_cannot_say_is_a_bug() -> None:
    with pytest.raises(TypeError, match="a record cannot hold a set"):
        dump_record({"a": {1, 2}})


def test_a_name_that_is_no_utf8_comes_back_as_the_same_bytes() -> None:
    for name in (b"\xff.jpg", b"caf\xe9", b"\xed\xa0\x80", b"ok-\xc3\xa9", b"a\nb\r\t\x1b\x00"):
        line = dump_record({"score": 1, "path": os.fsdecode(name)})
        assert line.count(b"\n") == 1
        line.decode("utf-8")
        assert os.fsencode(parse_record(line, where="x")["path"]) == name


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_any_record_comes_back(record: dict[str, Any]) -> None:
    line = dump_record({"first": 1, **record})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read = parse_record(line, where="x")
    assert {**read, "first": 0} == {"first": 0, **record} | {"first": 0}
    assert dump_record(read) == line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{broken", "not a JSON record"),
        (b"", "not a JSON record"),
        (b"\xff\xfe", "not a JSON record"),
        (b"[1]", "must be a JSON object"),
        (b"3", "must be a JSON object"),
        (b'{"a":' + b"[" * 100_000, "nested"),
        (b'{"a":' + b"9" * 5000 + b"}", "not a JSON record"),
        (b'{"a":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}", "nested"),
        (b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1), "nested"),
    ],
)
def test_what_is_no_record(line: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_record(line, where="stdin, line 3")
    assert caught.value.message.startswith("stdin, line 3: ")
    assert caught.value.kind == "bad-record"


def test_the_deepest_record_that_is_read_can_be_written() -> None:
    levels = DEEPEST - 1
    line = b'{"a":' + b"[" * levels + b"]" * levels + b"}\n"
    assert dump_record(parse_record(line, where="x")) == line


def test_read_records_passes_over_empty_lines_and_numbers_the_rest() -> None:
    stream = io.BytesIO(b'{"a":1}\n\n  \n{"a":2}\nnonsense\n')
    records = read_records(stream, name="file.jsonl")
    assert [next(records), next(records)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(InputError, match=r"file\.jsonl, line 5"):
        next(records)


def test_writer_puts_rank_and_schema_first_and_passes_the_rest_through(wire: Callable[..., Stdout]) -> None:
    stdout = wire()
    with RecordWriter("tool.command/1", "score", ()) as writer:
        writer.emit({"path": "a", "score": 0.5}, through={"path": "old", "score": 9, "schema": "old", "who": "me"})
        writer.emit({"path": "b", "reason": "none"})
        assert writer.exit_code == 0
        writer.fail(InputError("c: broken", kind="truncated"), {"path": "c"}, through={"who": "you"})
    assert stdout.shown == (
        b'{"score":0.500000,"schema":"tool.command/1","path":"a","who":"me"}\n'
        b'{"score": null,"schema":"tool.command/1","path":"b","reason":"none"}\n'
        b'{"score": null,"schema":"tool.command/1","path":"c",'
        b'"error":{"kind":"truncated","message":"c: broken"},"who":"you"}\n'
    )
    assert writer.exit_code == 3


def test_a_record_handed_on_is_unchanged_and_its_error_counts(wire: Callable[..., Stdout]) -> None:
    stdout = wire()
    writer = RecordWriter("tool.command/1", "score", (), decimals=12)
    lines = [b'{"angle":0.123456789012,"x":[1,{"y":null}]}\n', b'{"moved": null,"error":{"kind":"k","message":"m"}}\n']
    writer.pass_on(parse_record(lines[0], where=""))
    assert writer.exit_code == 0
    writer.pass_on(parse_record(lines[1], where=""))
    assert writer.exit_code == 3
    assert stdout.shown == b"".join(lines)


def test_table_cells(wire: Callable[..., Stdout]) -> None:
    terminal = wire(terminal=True)
    with RecordWriter("t.c/1", "score", ("path", "ssim", "box", "never", "count")) as writer:
        writer.emit({"score": 0.25, "path": "a\x1b[31m\nb", "ssim": 0.123456789, "box": [1.4, 22.6, 3], "count": 3})
        writer.emit({"score": None, "path": "[red]x[/red]\udcff", "ssim": math.inf})
        writer.fail(InputError("gone.jpg: no such file", kind="missing"), {"path": "gone.jpg"})
        assert terminal.shown == b"", "a table is drawn at the end"
    table = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown.decode())
    header, first, second, third = (line.split() for line in table.splitlines())
    assert header == ["score", "path", "ssim", "box", "count", "error"]
    assert first == ["0.250000", "a\\x1b[31m\\nb", "0.1235", "1", "23", "3", "3"]
    assert second == ["[red]x[/red]\\udcff"]
    assert third == ["gone.jpg", "gone.jpg:", "no", "such", "file"]


@pytest.mark.parametrize(("problem", "drawn"), [(KeyboardInterrupt, True), (ValueError, False)])
def test_an_interrupted_table_is_drawn(wire: Callable[..., Stdout], problem: type[BaseException], drawn: bool) -> None:
    terminal = wire(terminal=True)
    with pytest.raises(problem), RecordWriter("t.c/1", "score", ("path",)) as writer:
        writer.emit({"score": 0.25, "path": "a"})
        raise problem
    assert (b"0.250000" in terminal.shown) is drawn


def test_a_closed_stdout_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ToolError, match="stdout is closed"):
        RecordWriter("t.c/1", "score", ())


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (BrokenPipeError(), ReaderGoneError),
        (OSError(32, "Broken pipe"), ReaderGoneError),
        (OSError(28, "No space left on device"), ToolError),
    ],
)
def test_failing_stdout(monkeypatch: pytest.MonkeyPatch, error: OSError, becomes: type[Exception]) -> None:
    class Broken(io.BytesIO):
        def flush(self) -> None:
            raise error

    stream = Stdout()
    monkeypatch.setattr(Stdout, "buffer", Broken(), raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(becomes) as caught:
        write_out(b"x")
    if becomes is ToolError:
        assert str(caught.value) == "stdout: No space left on device"
    monkeypatch.undo()


@pytest.mark.parametrize("form", [Form.auto, Form.csv, Form.table])
@pytest.mark.parametrize("makes_files", [True, False])
def test_a_reader_that_goes_away(monkeypatch: pytest.MonkeyPatch, form: Form, makes_files: bool) -> None:
    def write(stream: io.TextIOWrapper) -> int:
        monkeypatch.setattr(sys, "stdout", stream)
        with RecordWriter("t.c/1", "score", (), form=form, makes_files=makes_files) as writer:
            for _ in range(3):
                writer.fail(InputError("gone"), {})
        stream.flush()
        return writer.exit_code

    read, end = os.pipe()
    os.close(read)
    with os.fdopen(end, "w") as stream:
        try:
            if makes_files:
                assert write(stream) == 3
            else:
                with pytest.raises(ReaderGoneError):
                    write(stream)
                discard_stdout()
        finally:
            monkeypatch.undo()


def test_error_fields() -> None:
    fields: Mapping[str, Any] = error_fields(ToolError("a: b", kind="k"))
    assert fields == {"error": {"kind": "k", "message": "a: b"}}


def test_csv(capfdbinary):
    fields = ("name", "shape", "note", "same", "error")
    with RecordWriter("tool.do/1", "score", (), form=Form.csv, csv_fields=fields) as writer:
        writer.emit({"score": 0.5, "name": 'a "b", c', "shape": (3, 4), "note": {"x": [1, None]}, "same": True})
        writer.emit({"name": "line\nbreak", "error": {"kind": "bad", "message": "it is bad"}, "extra": 1})
        assert writer.exit_code == 3
    out = capfdbinary.readouterr().out.decode()
    assert list(csv.reader(io.StringIO(out))) == [
        ["score", *fields],
        ["0.500000", 'a "b", c', "[3,4]", '{"x":[1,null]}', "true", ""],
        ["", "line\nbreak", "", "", "", '{"kind":"bad","message":"it is bad"}'],
    ]


def test_csv_quotes_what_must_be_and_nothing_else(capfdbinary):
    cells = {"a": "comma,", "b": 'say "x"', "c": "two\nlines", "d": "car\rriage", "e": " spaces ", "f": "\udcff;'\t"}
    with RecordWriter("tool.do/1", "score", (), form=Form.csv, csv_fields=tuple(cells)) as writer:
        writer.emit({"score": 1, **cells})
        writer.emit({"a": None})
    assert capfdbinary.readouterr().out == (
        b'score,a,b,c,d,e,f\n1,"comma,","say ""x""","two\nlines","car\rriage", spaces ,\xff;\'\t\n,,,,,,\n'
    )


def test_a_table_where_it_is_asked_for(capfd):
    with RecordWriter("tool.do/1", "score", ("name",), form=Form.table) as writer:
        writer.emit({"score": 0.5, "name": "a name that is " + "long " * 60 + "to its end"})
    head, row = capfd.readouterr().out.splitlines()
    assert head.split() == ["score", "name"]
    assert row.rstrip().endswith("to its end")


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        (Order.highest, ["0.900000", "0.500000", "0.100000", "", "0.300000", "0.200000"]),
        (Order.lowest, ["0.100000", "0.500000", "0.900000", "", "0.300000", "0.200000"]),
        (Order.made, ["0.500000", "0.900000", "", "0.100000", "0.300000", "0.200000"]),
    ],
)
def test_the_order_of_a_table(capfd, order, shown):
    with RecordWriter("tool.do/1", "score", ("name",), form=Form.table, order=order) as writer:
        for number in (0.5, 0.9, None, 0.1):
            writer.emit({"score": number, "name": "x"})
        writer.emit({"score": 0.3, "name": "x"}, sums_up=True)
        writer.emit({"score": 0.2, "name": "x"})
    lines = capfd.readouterr().out.splitlines()[1:]
    assert [line.split("x")[0].strip() for line in lines] == shown


def test_rows_of_a_group_stand_together(capfd):
    with RecordWriter("tool.do/1", "score", ("of",), form=Form.table, grouped_by="of") as writer:
        for number, of in ((0.1, "b"), (0.9, "a"), (0.3, "b"), (None, "a")):
            writer.emit({"score": number, "of": of})
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[1:]]
    assert rows == [["0.300000", "b"], ["0.100000", "b"], ["0.900000", "a"], ["a"]]


@pytest.mark.parametrize("field", ["", "of"])
def test_fields_of_any_name_and_kind_are_shown_in_a_table(capfd, field):
    with RecordWriter("tool.do/1", "score", ("name",), form=Form.table, grouped_by=field) as writer:
        for number, name in ((0.1, "a"), (0.9, "b")):
            writer.emit({"score": number, "name": name, field: [name, {}]})
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[1:]]
    assert rows == ([["0.100000", "a"], ["0.900000", "b"]] if field else [["0.900000", "b"], ["0.100000", "a"]])


def test_how_records_are_written_is_chosen_for_a_block(capfd):
    with written_as(Form.csv, ("score", "name", "more")) as output:
        with RecordWriter("tool.do/1", "score", ("name",)) as writer:
            writer.emit({"score": 0.5, "name": "a,b", "unknown": 1})
            writer.pass_on({"path": "c", "error": {"kind": "k", "message": "m"}, "name": "c"})
        assert output.line == "2 records, 1 of them failed"
    with written_as(Form.jsonl, ()) as output, RecordWriter("tool.do/1", "score", ("name",)) as writer:
        writer.emit({"score": 0.5})
        writer.sum_up("all is well")
    assert output.line == "all is well"
    with RecordWriter("tool.do/1", "score", ("name",)) as writer:
        writer.emit({"score": 0.25})
    assert capfd.readouterr().out.splitlines() == [
        "score,name,more",
        '0.500000,"a,b",',
        ",c,",
        '{"score":0.500000,"schema":"tool.do/1"}',
        '{"score":0.250000,"schema":"tool.do/1"}',
    ]
