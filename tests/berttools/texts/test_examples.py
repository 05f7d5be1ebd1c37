"""Dataset sets of texts: what is read, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError
from berttools.texts.examples import Example, read_examples, to_example
from berttools.texts.rows import Columns, Row, parse_columns


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
        ("a.jsonl", '{"text":"x","label":["a","b"]}', None, [("x", None, ("a", "b"))]),
        ("a.jsonl", '{"text":"x","label":[]}', None, [("x", None, ())]),
        ("a.jsonl", '{"text":"x","label":"3.4"}', None, [("x", None, "3.4")]),
        ("a.jsonl", '{"text":"x","label":"[1]"}', None, [("x", None, "[1]")]),
        ("a.csv", 'text,label\nx,"[""a"",""b""]"\nz,[]\n', None, [("x", None, ("a", "b")), ("z", None, ())]),
        ("a.csv", "text,label\nx,\"['a', 'b']\"\nz,[spam]\n", None, [("x", None, ("a", "b")), ("z", None, "[spam]")]),
        ("a.tsv", "text\tlabel\nx\t[1, 2]\ny\t 1\n", None, [("x", None, (1, 2)), ("y", None, 1)]),
        ("a.tsv", "text\tlabel\nx\t[spam]\ny\t[ham]\n", None, [("x", None, "[spam]"), ("y", None, "[ham]")]),
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
        ("a.jsonl", '{"text":"x","label":{"a":1}}\n', "line 1: label is neither text nor a number"),
        ("a.jsonl", '{"text":"x","label":[["a"]]}\n', "line 1: label is a list of what is neither text nor a number"),
        ("a.jsonl", '{"text":"x","label":["a",""]}\n', "line 1: label is a list of what is neither text nor a number"),
        ("a.jsonl", '{"text":"x","label":[0,1,0]}\n', "line 1: label has 0 twice: list the classes that hold"),
        ("a.jsonl", '{"text":"x","label":[0.0,1.0]}\n', "line 1: label is a list with 0.0: list the classes that hold"),
        ("a.jsonl", '{"text":"x","label":[true]}\n', "line 1: label is a list with True: list the classes that hold"),
        ("a.csv", 'text,label\nx,"[""a""]"\ny,\n', "line 3: no label; other labels are lists: write [] where no class"),
        ("a.csv", "text,label\ny,\nz,[]\n", "line 2: no label; other labels are lists: write [] where no class"),
        ("a.jsonl", '{"text":"x"}\n{"text":"x","label":[1]}\n', "line 1: no label among text; other labels are lists"),
        ("a.csv", 'text,label\nx,"[0.5]"\n', "line 2: label is a list with 0.5"),
        ("a.jsonl", '{"text":"x","label":1e999}\n', "line 1: label is not finite"),
        ("a.jsonl", '{"text":" ","label":1}\n', "line 1: text is empty"),
        ("a.jsonl", '{"text":7,"label":1}\n', "line 1: text is no text"),
        ("a.jsonl", '{"text":"x","text_a":"y","label":1}\n', "has text and text_a or text_b"),
        ("a.jsonl", '{"sentence":"x","label":1}\n', "line 1: no text, and no text_a among sentence, label; name them"),
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
        ("a.text", "x", "is it JSONL, CSV, TSV or a text a line"),
        ("a.txt", "x", "has texts alone; give a .jsonl, .csv or .tsv, with labels"),
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


def test_half_a_letter_becomes_a_question_mark() -> None:
    assert to_example(Row("l", {"text": "a\ud800b é"}), Columns({}), labelled=False).text == "a?b é"
