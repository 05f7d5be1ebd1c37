"""Read rows of JSONL, CSV, TSV and plain text, and which of their columns are texts and labels.

A wrong line is an ``InputError`` that names file and line; what makes a whole data set useless is a ``ToolError``.
"""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run, param
from _toolio.streams.inputs import STDIN
from _toolio.streams.reading import (
    MAX_LINE,
    MAX_SKIPPED,
    is_cut,
    is_descriptor,
    lines_of,
    no_line,
    open_input,
    too_long,
)
from _toolio.streams.records import Record, parse_record

ROLES = ("text", "text_a", "text_b", "label")
SUFFIXES = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "txt"}

_WINDOW = 512
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of a data set's columns.

    Attributes
    ----------
    names
        Role (text, text_a, text_b, label) to the column's name, if that differs.
    order
        For a CSV or TSV file without a header: the role of each column; "-" skips one.
    """

    names: Mapping[str, str]
    order: tuple[str, ...] = ()

    def of(self, role: str) -> str:
        """Return the name of the column with a role."""
        return self.names.get(role, role)

    def lacking(self, there: Container[str]) -> str | None:
        """Return the name of a column of texts that was named and is not there; None if there is none such.

        Without it a pair would be taken for a single text, or another text for the one that was meant.
        """
        named = (self.names[role] for role in ROLES[:3] if role in self.names)
        return next((name for name in named if name not in there), None)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a data set.

    Attributes
    ----------
    where
        File and line.
    fields
        Its values by column name; all are text in CSV and TSV.
    error
        Why it cannot be used, if that is known already.
    """

    where: str
    fields: Record
    error: InputError | None = None


def parse_columns(text: str | None) -> Columns:
    """Parse which column has which role: ``text=sentence,label=gold`` by name, ``-,label,-,text`` by position.

    Raises
    ------
    UsageError
        If it names no role, or one twice.
    """
    if text is None:
        return Columns({})
    words = [word.strip() for word in text.split(",")]
    pairs = [word.partition("=") for word in words]
    counted = not any(equals for _, equals, _ in pairs)
    roles = [role for role, _, _ in pairs if not (counted and role == "-")]
    if wrong := next((role for role in roles if role not in ROLES), None):
        raise UsageError(
            f"{param('columns')} {text}: {wrong!r} is none of {', '.join(ROLES)}; say text=NAME,label=NAME"
        )
    if twice := next((role for role in roles if roles.count(role) > 1), None):
        raise UsageError(f"{param('columns')} {text}: {twice} is there twice")
    if not roles or "" in roles or not (counted or all(name for _, _, name in pairs)):
        raise UsageError(f"{param('columns')} {text}: say text=NAME,label=NAME, or count the columns as in text,label")
    if "text" in roles and {"text_a", "text_b"} & set(roles):
        raise UsageError(f"{param('columns')} {text}: give text alone, or text_a and text_b")
    if "text_b" in roles and "text_a" not in roles:
        raise UsageError(f"{param('columns')} {text}: text_b needs text_a")
    if counted:
        return Columns({}, tuple(words))
    return Columns({role: name for role, _, name in pairs})


def rows_of(name: str, columns: Columns, *, needed: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a ``.jsonl``, ``.csv``, ``.tsv`` or ``.txt`` file, or of JSONL on stdin (``-``) or ``<(...)``.

    CSV is quoted as in RFC 4180; TSV is not quoted, like GLUE's files. A line of JSONL that is no record is a
    row with an error, unless none is one. A table must have the columns ``needed``, or by default one with texts. A
    ``.txt`` is one text a line, blank lines left out: there is nothing in it that ``needed`` could name.

    Raises
    ------
    ToolError
        If the file cannot be read, or is none of these; the message names it and the line.
    """
    if name == STDIN:
        yield from _jsonl(sys.stdin.buffer, "stdin")
        return
    path = Path(name)
    kind = SUFFIXES.get(path.suffix.lower(), "jsonl" if is_descriptor(name) else None)
    if kind is None:
        raise ToolError(
            f"{name}: is it JSONL, CSV, TSV or a text a line? name it .jsonl, .csv, .tsv or .txt", kind="unknown-format"
        )
    if kind == "txt" and needed:
        raise ToolError(
            f"{name}: a .txt has texts alone, and needed are {' and '.join(needed)}", kind=f"no-{needed[0]}"
        )
    try:
        with of_the_whole_run(), open_input(name) as stream:
            if kind == "txt":
                yield from _texts(stream, name, columns.of("text"))
            else:
                yield from _jsonl(stream, name) if kind == "jsonl" else _table(stream, name, kind, columns, needed)
    except FileNotFoundError:
        raise ToolError(f"{name}: no such file", kind="missing") from None
    except OSError as error:
        raise ToolError(f"{name}: cannot be read: {error.strerror or error}", kind="unreadable") from None


def rows_of_texts(texts: Sequence[str], columns: Columns) -> list[Row]:
    """Return a row for each of some texts."""
    return [Row(f"text {number}", {columns.of("text"): text}) for number, text in enumerate(texts, 1)]


def windows_of(name: str, columns: Columns) -> Iterator[list[Row]]:
    """Yield rows as ``rows_of`` does, in windows: at most 512 of a file, of stdin those that have arrived."""
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
    held = skipped = 0
    while block := stream.read1(_BLOCK):  # type: ignore[attr-defined]
        whole, newline, rest = block.rpartition(b"\n")
        if not newline:
            # Of a line that is too long only the beginning is kept, which says that it is cut.
            kept = block[: max(0, MAX_LINE + 1 - held)]
            begun.append(kept)
            held, skipped = held + len(kept), skipped + len(block) - len(kept)
            if skipped > MAX_SKIPPED:
                raise no_line("stdin")
            continue
        lines = b"".join([*begun, whole]).split(b"\n")
        begun, held, skipped = [rest], len(rest), 0
        for start in range(0, len(lines), _WINDOW):
            yield lines[start : start + _WINDOW]
    yield [b"".join(begun)]


def _jsonl(stream: IO[bytes], name: str) -> Iterator[Row]:
    if stream.seekable():
        _refuse_other_text(stream, name)
    for number, line in enumerate(lines_of(stream, name), 1):
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


def _refuse_other_text(stream: IO[bytes], name: str) -> None:
    """Raise if no line is a record: one error says so, and not one a line."""
    begin, some = stream.tell(), False
    for number, line in enumerate(lines_of(stream, name), 1):
        row = _of_line(line, name, number)
        if row is not None and row.error is None:
            break
        some = some or row is not None
    else:
        if some:
            raise ToolError(
                f"{name}: not JSON lines: no line is a record; give one JSON object a line", kind="bad-record"
            )
    stream.seek(begin)


def _texts(stream: IO[bytes], name: str, column: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(stream, name), 1):
        where = f"{name}, line {number}"
        if is_cut(line):
            yield Row(where, {}, too_long(where))
        elif (text := _decoded(line, name, number)).strip():
            yield Row(where, {column: text.rstrip("\r\n")})


def listed_names(names: Iterable[str]) -> str:
    """Return the names of columns for a message, at most eight."""
    every = list(names)
    return ", ".join(every[:8]) + (f" and {len(every) - 8} more" if len(every) > 8 else "")


def _decoded(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise ToolError(f"{name}, line {number}: not UTF-8; save the file as UTF-8", kind="bad-text") from None


class _TableLines:
    """The lines of a table, as `csv` takes them one by one.

    Attributes
    ----------
    held
        Bytes of the row that has begun. A quotation mark without its pair takes all that follows into one row.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._lines, self._name = enumerate(lines_of(stream, name), 1), name
        self.held = 0

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            self.held += len(line)
            if self.held > MAX_LINE:
                raise too_long(f"{self._name}, line {number}: a row")
            yield _decoded(line, self._name, number)


def _table(stream: IO[bytes], name: str, kind: str, columns: Columns, needed: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)  # a text may be longer than the 128 KB that csv allows
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {"strict": True}
    lines = _TableLines(stream, name)
    reader = csv.reader(lines, **form)
    header = list(columns.order)
    try:
        for cells in reader:
            lines.held = 0
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
            yield Row(where, _fields(header, cells))
    except csv.Error as error:
        # What Python says of it speaks of a file's opening.
        what = "a carriage return without a newline; end lines in newlines" if "new-line" in str(error) else error
        raise ToolError(f"{name}, line {reader.line_num}: no {kind.upper()}: {what}", kind="bad-table") from None


def _fields(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """Return a row's fields; of a row with an error as `csv_cell` writes it, those that it has written."""
    fields: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=True) if key != "-"}
    if fields.get("error", "").startswith("{"):
        with suppress(InputError):
            error = parse_record(fields["error"].encode(), where="")
            fields = {key: cell or None for key, cell in fields.items()} | {"error": error}
    return fields


def _checked_header(cells: Sequence[str], where: str, columns: Columns, needed: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if twice := next((cell for cell in header if header.count(cell) > 1), None):
        raise ToolError(f"{where}: two columns are called {twice!r}; rename one", kind="duplicate-column")
    if len(header) == 1 and (mark := next((each for each in (";", "\t", "|") if each in header[0]), None)):
        message = f"{where}: columns are separated by {mark!r}; save the table with commas, or with tabs as .tsv"
        raise ToolError(message, kind="bad-table")
    if lacking := next((each for each in needed if each not in header), None):
        message = f"{where}: no column {lacking} among {listed_names(header)}; needed are {' and '.join(needed)}"
        raise ToolError(message, kind=f"no-{lacking}")
    if needed:
        return header
    if name := columns.lacking(header):
        raise ToolError(
            f"{where}: no column {name} among {listed_names(header)}; see {param('columns')}", kind="no-text"
        )
    if columns.of("text") not in header and columns.of("text_a") not in header:
        raise ToolError(
            f"{where}: no column {columns.of('text')} or {columns.of('text_a')} among {listed_names(header)};"
            f" name them with {param('columns')} text=NAME,label=NAME, or count them where the file has no line of"
            " names",
            kind="no-text",
        )
    return header
