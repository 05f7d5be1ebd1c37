"""Damaged records and texts on stdin and in files, and what comes of them in every form of output."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from _toolio.errors import InputError, ToolError
from _toolio.streams.inputs import open_items
from _toolio.streams.records import Form, RecordWriter, dump_record, parse_record, read_records
from berttools.texts.examples import to_example
from berttools.texts.rows import Columns, rows_of
from facetools.faces.face import face_of
from fuzzing import fuzz, mutated

NAME = "records"

LINES = [
    b'{"score":0.5,"schema":"facetools.detect/1","path":"a/b.jpg","relative":"b.jpg","face":0,"box":[1,2,30.5,40],'
    b'"confidence":0.99,"landmarks":[[1,2],[3,4],[5,6],[7,8],[9,10]]}\n',
    b'{"score": null,"path":null,"source":"a.jpg","error":{"kind":"k","message":"m"}}\n',
    b'{"text":"a \\ud83d\\ude00 text","label":"x"}\n',
    b'{"text_a":"one","text_b":"two","label":[1,2],"gold":NaN}\n',
    b'{"label":1e999,"score":-0.0,"deep":[[[[{}]]]],"number":123456789012345678901234567890}\n',
    b"text,label\n" + b'"a ""quoted"" one",x\n' + b"\xef\xbb\xbf\xc3\xa9,y\n",
    b"text\tlabel\na\tb\n",
    b"photos/a.jpg\0photos/b.jpg\0",
]


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


def _written(records: list[dict[str, object]], form: Form) -> bytes:
    """Return what a command writes that passes records on."""
    out = io.BytesIO()
    before, sys.stdout = sys.stdout, io.TextIOWrapper(out, "utf-8")
    fields = ("path", "relative", "error")
    try:
        with RecordWriter("fuzz/1", "score", ("path", "label"), form=form, csv_fields=fields) as writer:
            for record in records:
                writer.pass_on(record)
                writer.emit({"path": "x", "score": record.get("score")}, through=record)
    finally:
        written, sys.stdout = sys.stdout, before
        written.detach()  # type: ignore[attr-defined]
    return out.getvalue()


def _check_forms(records: list[dict[str, object]]) -> None:
    for record in records:
        line = dump_record(record)
        assert line.count(b"\n") == 1
        parse_record(line, where="again")
    for line in _written(records, Form.jsonl).splitlines():
        json.loads(line)
    rows = list(csv.reader(io.StringIO(_written(records, Form.csv).decode("utf-8", "surrogateescape"), newline="")))
    assert all(len(row) == 4 for row in rows), rows
    assert all(char.isprintable() or char == "\n" for char in _written(records, Form.table).decode())


def try_one(rng: random.Random) -> str:
    """Read damaged lines by everything that reads lines."""
    data = mutated(b"".join(rng.choices(LINES, k=rng.randint(1, 4))), rng)
    records, ends = list[dict[str, object]](), set[str]()
    before, sys.stdin = sys.stdin, _Stdin(data)  # type: ignore[assignment]
    try:
        for item in open_items(["-"], null=rng.random() < 0.2):
            assert ".." not in item.relative.split("/")
            os.fsencode(item.path)
            records.append(item.record)
            with contextlib.suppress(InputError):
                face_of(item.record, item.path)
    except ToolError:
        ends.add("refused")
    finally:
        sys.stdin = before
    with contextlib.suppress(InputError):
        records += read_records(io.BytesIO(data), name="x")
    _check_forms(records)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        path = Path(folder) / f"a.{rng.choice(('jsonl', 'csv', 'tsv', 'txt'))}"
        path.write_bytes(data)
        try:
            for row in rows_of(str(path), Columns({})):
                with contextlib.suppress(InputError):
                    to_example(row, Columns({}), labelled=rng.random() < 0.5)
        except ToolError as error:
            assert error.exit_code != InputError.exit_code
            ends.add("refused")
    return "refused" if ends else "read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one))
