"""Names that people did not choose well, in every form of records."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _toolio.streams.forms import csv_line, drawn_table
from _toolio.streams.records import dump_record
from _toolio.words import printable
from conftest import Run

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
"""Halves of surrogate pairs, control characters and all."""


@given(ANY_TEXT)
def test_any_text_comes_back_from_a_record(text: str) -> None:
    line = dump_record({"n": 1, text: text})
    assert json.loads(line)[text] == text or text == "n"
    assert not any(code < 0x20 or 0x7F <= code < 0xA0 for code in map(ord, line.decode()[:-1]))


@given(st.lists(ANY_TEXT, min_size=2))
def test_any_text_is_a_cell_of_csv(cells: list[str]) -> None:
    line = csv_line(cells)
    (read,) = csv.reader(io.StringIO(line.decode("utf-8", "surrogateescape"), newline=""))
    halves = [any("\ud800" <= char <= "\udfff" and not "\udc80" <= char <= "\udcff" for char in cell) for cell in cells]
    assert len(read) == len(cells)
    assert all(one == other for one, other, half in zip(read, cells, halves, strict=True) if not half)


@given(ANY_TEXT)
def test_a_name_never_drives_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(char.isprintable() for char in shown)
    shown.encode()
    table = drawn_table([{"n": 1.0, "path": text}], "n", ["path"], 6).decode()
    assert all(char.isprintable() or char == "\n" for char in table)


NAMES = ["a\nb.jpg", "t\tb.jpg", "\x1b[31mred.jpg", "\x9b31m.jpg", os.fsdecode(b"caf\xe9.jpg")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"no photo")
    return tmp_path


HALF = json.dumps({"path": None, "relative": "\ud800", "error": {"kind": "k", "message": "half \ud800 of a pair"}})


@pytest.mark.parametrize("form", ["--csv", "--table", "--jsonl"])
def test_half_of_a_surrogate_pair_is_no_traceback(form: str, run: Callable[..., Run]) -> None:
    done = run("facetools", "detect", form, stdin=HALF.encode() + b"\n")
    assert (done.code, done.err) == (3, "")
    assert b"\\ud800" in done.out


@pytest.mark.parametrize("form", ["--csv", "--table", "--jsonl"])
def test_names_of_files_in_a_pipe(form: str, folder: Path, run: Callable[..., Run]) -> None:
    done = run("facetools", "detect", "--crops", form, "--in", folder)
    assert (done.code, done.err) == (3, "")
    if form == "--jsonl":
        assert [record["path"] for record in done.records] == [f"{folder}/{name}" for name in sorted(NAMES)]
    if form == "--csv":
        rows = list(csv.DictReader(io.StringIO(done.out.decode("utf-8", "surrogateescape"), newline="")))
        assert [row["path"] for row in rows] == [f"{folder}/{name}" for name in sorted(NAMES)]


@pytest.mark.parametrize("form", ["--csv", "--table", "--jsonl"])
def test_names_of_files_on_a_terminal(form: str, folder: Path) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "facetools", "detect", "--crops", form, "--in", folder]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = bytearray()
        while True:
            try:
                block = os.read(ours, 1 << 16)
            except OSError:  # Linux says so at the end
                break
            if not block:
                break
            shown += block
        process.wait()
    os.close(ours)
    text = shown.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    # rich makes a table bold and red with sequences of its own.
    assert b"\x1b[31mred.jpg" not in shown
    assert "\x9b" not in text
    assert "red.jpg" in text
    if form != "--table":
        assert "\x1b" not in text
