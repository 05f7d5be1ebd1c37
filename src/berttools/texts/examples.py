"""Data sets of texts with labels: JSONL, CSV and TSV, and what kind of task their labels make.

A wrong line is an ``InputError`` that names file and line; what makes a whole data set useless is a ``ToolError``.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run
from _toolio.streams.inputs import STDIN
from _toolio.streams.records import Record, parse_record

ROLES = ("text", "text_a", "text_b", "label")
SUFFIXES = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}

_WINDOW = 512
_BLOCK = 1 << 16

PRINTED = re.compile(r"0|-?[1-9][0-9]*")
"""A whole number as it is printed: 007, +7 and 1_0 are names."""
_DIGITS = re.compile(r"[+-]?\d+")

Label = str | int | float


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what.

    Attributes
    ----------
    names
        Role (text, text_a, text_b, label) to the column's name, where it has another.
    order
        For a CSV or TSV file without a line of names: what each column is; "-" is passed over.
    """

    names: Mapping[str, str]
    order: tuple[str, ...] = ()

    def of(self, role: str) -> str:
        """Name the column with a role."""
        return self.names.get(role, role)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a data set.

    Attributes
    ----------
    where
        File and line.
    fields
        What it holds, by the column's name; all text in CSV and TSV.
    error
        Why it cannot be used, where that is known already.
    """

    where: str
    fields: Record
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or a pair of texts, and its label if it has one.

    Attributes
    ----------
    where
        File and line.
    text, second
        The text, or both of a pair.
    label
        None where it has none.
    written
        The label as a table has it, whose cells are all text; None for a label of JSONL.
    """

    where: str
    text: str
    second: str | None = None
    label: Label | None = None
    written: str | None = None


def parse_columns(text: str | None) -> Columns:
    """Read ``--columns``: ``text=sentence,label=gold`` names columns, ``-,label,-,text`` counts them.

    Raises
    ------
    UsageError
        It names no role or one twice.
    """
    if text is None:
        return Columns({})
    words = [word.strip() for word in text.split(",")]
    pairs = [word.partition("=") for word in words]
    counted = not any(equals for _, equals, _ in pairs)
    roles = [role for role, _, _ in pairs if not (counted and role == "-")]
    if wrong := next((role for role in roles if role not in ROLES), None):
        raise UsageError(f"--columns {text}: {wrong!r} is none of {', '.join(ROLES)}; say text=NAME,label=NAME")
    if twice := next((role for role in roles if roles.count(role) > 1), None):
        raise UsageError(f"--columns {text}: {twice} is there twice")
    if not roles or "" in roles or not (counted or all(name for _, _, name in pairs)):
        raise UsageError(f"--columns {text}: say text=NAME,label=NAME, or count the columns as in text,label")
    if "text" in roles and {"text_a", "text_b"} & set(roles):
        raise UsageError(f"--columns {text}: give text alone, or text_a and text_b")
    if "text_b" in roles and "text_a" not in roles:
        raise UsageError(f"--columns {text}: text_b needs text_a")
    if counted:
        return Columns({}, tuple(words))
    return Columns({role: name for role, _, name in pairs})


def rows_of(name: str, columns: Columns, *, needed: Sequence[str] = ()) -> Iterator[Row]:
    """Read the rows of a ``.jsonl``, ``.csv`` or ``.tsv`` file, or JSONL on stdin (``-``), one at a time.

    CSV is quoted as in RFC 4180; TSV knows no quotes, as GLUE's files do not. A line of JSONL that is no record is a
    row with an error. A table must have the columns ``needed``, or one of a text where none is named.

    Raises
    ------
    ToolError
        The file cannot be read, or is no such file; the message names it and the line.
    """
    if name == STDIN:
        yield from _jsonl(sys.stdin.buffer, "stdin")
        return
    path = Path(name)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ToolError(f"{name}: is it JSONL, CSV or TSV? name it .jsonl, .csv or .tsv", kind="unknown-format")
    try:
        with path.open("rb") as stream:
            yield from _jsonl(stream, name) if kind == "jsonl" else _table(stream, name, kind, columns, needed)
    except FileNotFoundError:
        raise ToolError(f"{name}: no such file", kind="missing") from None
    except OSError as error:
        raise ToolError(f"{name}: cannot be read: {error.strerror or error}", kind="unreadable") from None


def windows_of(name: str, columns: Columns) -> Iterator[list[Row]]:
    """Read rows as ``rows_of`` does, as many together as are there without waiting for more, and not too many."""
    if name != STDIN:
        rows = rows_of(name, columns)
        while window := list(islice(rows, _WINDOW)):
            yield window
        return
    number = 0
    for lines in _lines_at_hand(sys.stdin.buffer):
        yield [row for place, line in enumerate(lines, number + 1) if (row := _of_line(line, "stdin", place))]
        number += len(lines)


def _lines_at_hand(stream: IO[bytes]) -> Iterator[list[bytes]]:
    begun: list[bytes] = []
    while block := stream.read1(_BLOCK):  # type: ignore[attr-defined]
        whole, newline, rest = block.rpartition(b"\n")
        if not newline:
            begun.append(block)
            continue
        lines = b"".join([*begun, whole]).split(b"\n")
        begun = [rest]
        for start in range(0, len(lines), _WINDOW):
            yield lines[start : start + _WINDOW]
    yield [b"".join(begun)]


def _jsonl(stream: IO[bytes], name: str) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if row := _of_line(line, name, number):
            yield row


def _of_line(line: bytes, name: str, number: int) -> Row | None:
    where = f"{name}, line {number}"
    line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    if not line.strip():
        return None
    try:
        return Row(where, parse_record(line, where=where))
    except InputError as error:
        return Row(where, {}, error)


def _lines(stream: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise ToolError(f"{name}, line {number}: not UTF-8; save the file as UTF-8", kind="bad-text") from None


def _table(stream: IO[bytes], name: str, kind: str, columns: Columns, needed: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the 128 KB that csv allows
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {"strict": True}
    reader = csv.reader(_lines(stream, name), **form)
    header = list(columns.order)
    try:
        for cells in reader:
            if not cells:
                continue
            if not header:
                header = _checked_header(cells, f"{name}, line {reader.line_num}", columns, needed)
                continue
            where = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                message = f"{where}: {len(cells)} columns, where there should be {len(header)}"
                yield Row(where, {}, InputError(message, kind="bad-table"))
                continue
            yield Row(where, {key: cell for key, cell in zip(header, cells, strict=True) if key != "-"})
    except csv.Error as error:
        raise ToolError(f"{name}, line {reader.line_num}: no {kind.upper()}: {error}", kind="bad-table") from None


def _checked_header(cells: Sequence[str], where: str, columns: Columns, needed: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if twice := next((cell for cell in header if header.count(cell) > 1), None):
        raise ToolError(f"{where}: two columns are called {twice!r}; rename one", kind="duplicate-column")
    if lacking := next((each for each in needed if each not in header), None):
        message = f"{where}: no column {lacking} among {', '.join(header[:8])}; needed are {' and '.join(needed)}"
        raise ToolError(message, kind=f"no-{lacking}")
    if not needed and columns.of("text") not in header and columns.of("text_a") not in header:
        raise ToolError(
            f"{where}: no column {columns.of('text')} or {columns.of('text_a')} among {', '.join(header[:8])};"
            " name them with --columns text=NAME,label=NAME, or count them where the file has no line of names",
            kind="no-text",
        )
    return header


def to_example(row: Row, columns: Columns, *, labelled: bool) -> Example:
    """Take the texts, and the label if it is ``labelled``, out of a row.

    Raises
    ------
    InputError
        A text is missing, empty, or no text; the label is missing, or neither text nor a finite number.
    """
    if row.error is not None:
        raise row.error
    first, second = (columns.of(role) for role in ("text_a", "text_b"))
    if (single := columns.of("text")) in row.fields:
        if first in row.fields or second in row.fields:
            raise InputError(f"{row.where}: has {single} and {first} or {second}; give one of them", kind="bad-text")
        texts = [_text(row, single)]
    elif first in row.fields:
        texts = [_text(row, name) for name in ([first, second] if second in row.fields else [first])]
    else:
        raise InputError(f"{row.where}: no {single}, and no {first}; name them with --columns", kind="no-text")
    label = check_label(row.fields, columns.of("label"), row.where) if labelled else None
    return Example(row.where, texts[0], texts[1] if len(texts) == 2 else None, label)


def _text(row: Row, name: str) -> str:
    text = row.fields[name]
    if not isinstance(text, str):
        raise InputError(f"{row.where}: {name} is no text", kind="bad-text")
    if not text.strip():
        raise InputError(f"{row.where}: {name} is empty", kind="empty-text")
    # Half of a surrogate pair, which JSON can say, is no letter for a tokenizer.
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def check_label(fields: Record, name: str, where: str) -> Label:
    """Take a label out of a record; InputError where it is missing, or neither text nor a finite number."""
    label = fields.get(name)
    if label is None or label == "":
        raise InputError(f"{where}: no {name}", kind="no-label")
    if isinstance(label, bool):
        return str(label).lower()
    if not isinstance(label, str | int | float):
        raise InputError(f"{where}: {name} is neither text nor a number", kind="bad-label")
    if isinstance(label, float) and not math.isfinite(label):
        raise InputError(f"{where}: {name} is not finite", kind="bad-label")
    return label


def read_examples(name: str, columns: Columns) -> list[Example]:
    """Read a data set to train or to measure on: all lines, each with its label.

    Labels of CSV and TSV are numbers if all of them are.

    Raises
    ------
    ToolError
        A line cannot be used, or there is none.
    """
    with of_the_whole_run():
        examples = [to_example(row, columns, labelled=True) for row in rows_of(name, columns)]
    if not examples:
        raise ToolError(f"{name}: holds no example", kind="empty")
    pairs = examples[0].second is not None
    if odd := next((example for example in examples if (example.second is not None) != pairs), None):
        raise ToolError(f"{odd.where}: one text among pairs, or a pair among single texts", kind="bad-text")
    if SUFFIXES.get(Path(name).suffix.lower()) in ("csv", "tsv"):
        return with_numbers(examples)
    return examples


def with_numbers(examples: list[Example]) -> list[Example]:
    """Make the labels of a table numbers where every one of them is written as a number.

    They are whole numbers where each is written as that number is printed, and numbers with a decimal point where one
    has it, or an exponent. Others are names: 007 and 010, or 1_0, are not 7, 10 and 10.

    Raises
    ------
    ToolError
        All are numbers, but one of nan or inf: it is no class among numbers.
    """
    written = [str(example.label) for example in examples]
    numbers = _numbers([word.strip() for word in written])
    if numbers is None:
        return [replace(example, written=word) for example, word in zip(examples, written, strict=True)]
    if odd := next((e for e, n in zip(examples, numbers, strict=True) if not abs(n) < math.inf), None):
        raise ToolError(f"{odd.where}: label {odd.label!r} is not finite", kind="bad-label")
    return [replace(e, label=n, written=word) for e, n, word in zip(examples, numbers, written, strict=True)]


def _numbers(words: Sequence[str]) -> Sequence[int | float] | None:
    """Return what a column's cells are as numbers, or None where they are names."""
    if any("_" in word for word in words):
        return None
    try:
        if all(PRINTED.fullmatch(word) for word in words):
            return [int(word) for word in words]
    except ValueError:  # of more digits than Python converts
        return _floats(words)
    return None if all(_DIGITS.fullmatch(word) for word in words) else _floats(words)


def _floats(words: Iterable[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def is_name(written: str) -> bool:
    """Test whether a cell of digits is not written as its number is printed, and so names a class."""
    word = written.strip()
    return bool(_DIGITS.fullmatch(word)) and not PRINTED.fullmatch(word)
