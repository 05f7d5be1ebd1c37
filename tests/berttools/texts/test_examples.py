"""Data sets of texts: what is read, and one clear line for what is wrong."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError, UsageError
from berttools.texts.examples import Columns, Example, Row, parse_columns, read_examples, to_example, windows_of
from berttools.texts.labels import Labels, learn_labels, numbers_of


def examples(folder: Path, name: str, text: str | bytes, columns: str | None = None) -> list[Example]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_examples(str(path), parse_columns(columns))


def shown(found: list[Example]) -> list[tuple[str, str | None, object]]:
    return [(each.text, each.second, each.label) for each in found]


@pytest.mark.parametrize(
    ("name", "text", "columns", "expected"),
    [
        ("a.jsonl", '{"text":"x","label":1}\n\n{"text":"z","label":0}\n', None, [("x", None, 1), ("z", None, 0)]),
        ("a.jsonl", '\ufeff{"text_a":"x","text_b":"y","label":0.5}', None, [("x", "y", 0.5)]),
        ("a.jsonl", '{"s":"x","gold":true}', "text=s,label=gold", [("x", None, "true")]),
        ("a.csv", 'text,label\n"x, ""y""\nz",1\nw,0\n', None, [('x, "y"\nz', None, 1), ("w", None, 0)]),
        ("a.csv", "text,label\nx,1\ny,0.5\n", None, [("x", None, 1.0), ("y", None, 0.5)]),
        ("a.csv", "text,label\nx,1\ny,no\n", None, [("x", None, "1"), ("y", None, "no")]),
        ("a.csv", "text,label\nx,007\ny,010\n", None, [("x", None, "007"), ("y", None, "010")]),
        ("a.csv", "text,label\nx,1_0\ny,2\n", None, [("x", None, "1_0"), ("y", None, "2")]),
        ("a.csv", "text,label\nx,1_0.0\ny,2.5\n", None, [("x", None, "1_0.0"), ("y", None, "2.5")]),
        ("a.tsv", "text\tlabel\nx\t+1\ny\t-1\n", None, [("x", None, "+1"), ("y", None, "-1")]),
        ("a.tsv", "text\tlabel\nx\t-0\ny\t1\n", None, [("x", None, "-0"), ("y", None, "1")]),
        ("a.tsv", "text\tlabel\nx\t\u0663\ny\t1\n", None, [("x", None, "\u0663"), ("y", None, "1")]),
        ("a.tsv", "text\tlabel\nx\t-1\ny\t 20 \nz\t0\n", None, [("x", None, -1), ("y", None, 20), ("z", None, 0)]),
        ("a.tsv", "text\tlabel\nx\t05\ny\t+2.50\n", None, [("x", None, 5.0), ("y", None, 2.5)]),
        ("a.tsv", "text\tlabel\nx\t2\ny\t1e1\n", None, [("x", None, 2.0), ("y", None, 10.0)]),
        ("a.tsv", 'text\tlabel\nthe "x\t1\n', None, [('the "x', None, 1)]),
        ("a.tsv", "gj04\t1\t\tsome words\n", "-,label,-,text", [("some words", None, 1)]),
        ("a.tsv", "one\ttwo\tnear\nx\ty\t5\n", "text_a=one,text_b=two,label=near", [("x", "y", 5)]),
    ],
)  # fmt: skip
def test_what_is_read(
    tmp_path: Path, name: str, text: str, columns: str | None, expected: list[tuple[str, str | None, object]]
) -> None:
    assert shown(examples(tmp_path, name, text, columns)) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text":"x","label":1}\n{"text":"y"}\n', "line 2: no label"),
        ("a.jsonl", '{"text":"x","label":null}\n', "line 1: no label"),
        ("a.jsonl", '{"text":"x","label":[1]}\n', "line 1: label is neither text nor a number"),
        ("a.jsonl", '{"text":"x","label":1e999}\n', "line 1: label is not finite"),
        ("a.jsonl", '{"text":" ","label":1}\n', "line 1: text is empty"),
        ("a.jsonl", '{"text":7,"label":1}\n', "line 1: text is no text"),
        ("a.jsonl", '{"text":"x","text_a":"y","label":1}\n', "has text and text_a or text_b"),
        ("a.jsonl", '{"sentence":"x","label":1}\n', "line 1: no text, and no text_a; name them with --columns"),
        ("a.jsonl", '{"text":"x","label":1}\nnope\n', "line 2: not a JSON record"),
        ("a.jsonl", '{"text":"x","label":1}\n{"text_a":"x","text_b":"y","label":1}\n', "line 2: one text among pairs"),
        ("a.jsonl", "\n", "holds no example"),
        ("a.csv", "text,label\nx,1,2\n", "line 2: 3 columns, where there should be 2"),
        ("a.csv", 'text,label\n"x,1\n', "no CSV"),
        ("a.csv", "text,text\n", "two columns are called 'text'"),
        ("a.csv", "sentence,label\n", "no column text or text_a among sentence, label"),
        ("a.tsv", b"text\tlabel\n\xff\t1\n", "line 2: not UTF-8"),
        ("a.csv", "text,label\nx,1.5\ny,nan\n", "line 3: label 'nan' is not finite"),
        ("a.csv", f"text,label\nx,1\ny,1{'0' * 5000}\n", "line 3: label '1000"),
        ("a.txt", "x", "is it JSONL, CSV or TSV"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ToolError) as raised:
        examples(tmp_path, name, text)
    assert message in raised.value.message
    assert raised.value.message.startswith(str(tmp_path / name))
    assert not isinstance(raised.value, InputError)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"gone\.jsonl: no such file"):
        read_examples(str(tmp_path / "gone.jsonl"), Columns({}))


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


def of_labels(*labels: object) -> list[Example]:
    return [Example(f"a.jsonl, line {number}", "x", None, label) for number, label in enumerate(labels, 1)]  # type: ignore[arg-type]


def test_labels_tell_the_task() -> None:
    assert learn_labels(of_labels("no", "yes", "no")).names == ("no", "yes")
    assert learn_labels(of_labels(10, 9, 2)).names == ("2", "9", "10")
    assert learn_labels(of_labels(0, 1.5)).regression
    assert learn_labels(of_labels(0, 1), task="regression").regression
    assert learn_labels(of_labels(0.0, 1.0), task="classification").names == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ((1, "a"), "auto", "line 2: label 'a' is text, unlike 1"),
        ((1, 1), "auto", "all labels are 1"),
        (("a", "b"), "regression", "'a' is no number"),
        ((0.5, 1), "classification", "0.5 names no class"),
        (tuple(range(1001)), "auto", "1001 different labels"),
    ],
)
def test_labels_that_are_no_task(labels: tuple[object, ...], task: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        learn_labels(of_labels(*labels), task=task)


def test_a_label_becomes_a_number_or_is_refused() -> None:
    named = Labels(("bad", "good"), numbered=True)
    assert [named.number(label, "l", "--train") for label in ("bad", "good", 1)] == [0, 1, 1]
    assert [Labels(("-1", "3")).number(label, "l", "--train") for label in (3, -1, "3", 3.0)] == [1, 0, 1, 1]
    assert (named.shown(1), Labels(("-1", "3")).shown(1)) == ("good", 3)
    learned = Labels(("bad", "good"))
    for labels, label in ((named, "nice"), (named, 2), (learned, 1), (Labels(("1", "2")), 0), (Labels(), "x")):
        with pytest.raises(InputError, match=r"line 4: label .* is no"):
            labels.number(label, "line 4", "--train has")  # type: ignore[arg-type]


def column(folder: Path, *cells: str) -> list[Example]:
    return examples(folder, "a.csv", "text,label\n" + "".join(f"x,{cell}\n" for cell in cells))


@pytest.mark.parametrize(
    ("learned", "names", "cells", "numbers"),
    [
        (("007", "010"), ("007", "010"), ("010", "007"), [1, 0]),
        (("007", "10"), ("007", "10"), ("10",), [1]),  # a column of its own would be of whole numbers
        (("1_0", "2.0"), ("1_0", "2.0"), ("2.0",), [1]),  # or of numbers to come near to
        (("10", "9"), ("9", "10"), ("9.0", "10.0"), [0, 1]),
        (("1.5", "2"), (), ("1", "2"), [1.0, 2.0]),
        (("1.5", "2"), (), ("05", "+10"), [5.0, 10.0]),
    ],
)
def test_labels_of_another_table_are_read_as_those_learned(
    tmp_path: Path, learned: tuple[str, ...], names: tuple[str, ...], cells: tuple[str, ...], numbers: list[float]
) -> None:
    labels = learn_labels(column(tmp_path, *learned))
    assert labels.names == names
    assert numbers_of(column(tmp_path, *cells), labels, "--train has") == numbers


@pytest.mark.parametrize(
    ("learned", "cells", "message"),
    [
        (("7", "10"), ("007", "010"), "line 2: label '007' is none of 7, 10, which --train has"),
        (("7", "10"), ("10.0", "007"), "line 3: label '007' is none of 7, 10"),
        (("007", "010"), ("7", "10"), "line 2: label 7 is none of 007, 010"),
        (("1.5", "2"), ("1_0", "5"), "line 2: label '1_0' is no number"),
        (("1.5", "2"), ("good", "5"), "line 2: label 'good' is no number"),
    ],
)
def test_labels_of_another_table_that_were_not_learned(
    tmp_path: Path, learned: tuple[str, ...], cells: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        numbers_of(column(tmp_path, *cells), learn_labels(column(tmp_path, *learned)), "--train has")


def test_numbers_with_zeros_in_front_where_a_regression_is_asked_for(tmp_path: Path) -> None:
    found = column(tmp_path, "05", "+10")
    labels = learn_labels(found, task="regression")
    assert labels.regression
    assert numbers_of(found, labels, "--train has") == [5.0, 10.0]
    with pytest.raises(ToolError, match="line 3: label '1_0' is no number"):
        learn_labels(column(tmp_path, "05", "1_0"), task="regression")


def test_classes_that_only_look_like_numbers_are_shown_as_they_are_called() -> None:
    labels = Labels(("007", "010"))
    assert [labels.shown(number) for number in (0, 1)] == ["007", "010"]


def test_half_a_letter_becomes_a_question_mark() -> None:
    assert to_example(Row("l", {"text": "a\ud800b é"}), Columns({}), labelled=False).text == "a?b é"


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
