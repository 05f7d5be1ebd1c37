r"""Records: one JSON object a line on stdout, or a table where stdout is a terminal.

A record's first field is the number that ranks it, in fixed-point notation, so that plain ``sort``
ranks a stream. NaN and infinity never reach a record. A path that is not UTF-8 is written with
JSON's own ``\udcxx`` escapes (Python's surrogateescape), and comes back as the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, Self, TextIO

from _toolio.errors import InputError, ToolError
from _toolio.json_text import DEEPEST, TooDeepError, parse_json
from _toolio.streams.forms import csv_cell, csv_line, drawn_table
from _toolio.streams.reading import is_cut, lines_of, too_long
from _toolio.words import many, printable

Record = dict[str, Any]

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Control characters that JSON allows as they are, and terminals obey."""


class Form(StrEnum):
    """Formats of records on stdout."""

    auto = "auto"
    """A table on a terminal, else JSONL."""
    table = "table"
    csv = "csv"
    jsonl = "jsonl"


class Order(StrEnum):
    """Orders of the rows of a table; elsewhere records come as they are made."""

    highest = "highest"
    lowest = "lowest"
    made = "made"


@dataclass(slots=True)
class Output:
    """How records are written where a writer is not told, and what sums them up.

    Attributes
    ----------
    form
        The format.
    fields
        Fields of CSV, in order.
    line
        The sum in a line, once a writer has ended: for people, and no part of the records.
    stream
        Where JSONL is written instead of stdout.
    records, failures
        How many records were written so far, and how many of them have an error.
    """

    form: Form = Form.auto
    fields: tuple[str, ...] = ()
    line: str = ""
    stream: IO[bytes] | None = None
    records: int = 0
    failures: int = 0


_output: ContextVar[Output | None] = ContextVar("output", default=None)


@contextmanager
def written_as(form: Form, fields: Sequence[str]) -> Iterator[Output]:
    """Write records so inside the block, where a writer is not told otherwise; as `Output` takes them."""
    output = Output(form, tuple(fields))
    token = _output.set(output)
    try:
        yield output
    finally:
        _output.reset(token)


class ReaderGoneError(Exception):
    """The reader of stdout has closed it: the run ends quietly."""


def _plain(value: Any) -> Any:
    """Convert numpy scalars, tuples and paths to what JSON has; NaN and infinity to null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def dump_record(record: Mapping[str, Any], *, decimals: int = 6) -> bytes:
    """Return a record as one line of JSON.

    Parameters
    ----------
    record
        Its first field ranks it: a float there is written with ``decimals`` decimals and no exponent.
    decimals
        12 for angles, 6 elsewhere.

    Returns
    -------
    bytes
        UTF-8 with a newline at the end and none inside.
    """
    fields = []
    for position, (key, value) in enumerate(record.items()):
        value = _plain(value)
        if position == 0 and isinstance(value, float):
            text = f"{value:.{decimals}f}"
        elif position == 0 and value is None:
            # The space sorts before every digit: "sort -r | head" ranks numbers first and what has none last.
            text = " null"
        else:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        fields.append(f"{json.dumps(key, ensure_ascii=False)}:{text}")
    line = "{" + ",".join(fields) + "}"
    if not line.isprintable():
        line = line.translate(_JSON_ESCAPES)
    # A lone surrogate (a byte that was no UTF-8) becomes \udcxx, which is its JSON escape.
    return (line + "\n").encode("utf-8", "backslashreplace")


def parse_record(line: str | bytes, *, where: str) -> Record:
    """Read one line of JSONL; ``where`` names the file and line in the error."""
    if isinstance(line, bytes) and is_cut(line):
        raise too_long(where)
    try:
        record = parse_json(line)
    except TooDeepError:
        raise InputError(f"{where}: a record may be nested {DEEPEST} deep", kind="bad-record") from None
    except ValueError:
        raise InputError(f"{where}: not a JSON record; give one JSON object a line", kind="bad-record") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: a record must be a JSON object", kind="bad-record")
    return record


def read_records(stream: IO[bytes], *, name: str) -> Iterator[Record]:
    """Read every record of a JSONL stream; empty lines are passed over."""
    for number, line in enumerate(lines_of(stream, name), 1):
        if line.strip():
            yield parse_record(line, where=f"{name}, line {number}")


def error_fields(error: ToolError) -> Record:
    """Return the ``error`` field of an input that could not be used."""
    return {"error": {"kind": error.kind, "message": error.message}}


def has_failed(record: Mapping[str, Any]) -> bool:
    """Test whether a record says that its input could not be used: a table's column of errors is empty elsewhere."""
    return bool(record.get("error"))


class RecordWriter:
    """Write a command's records to stdout, flushing each; draw a table on a terminal, or if `form` is one.

    Parameters
    ----------
    schema
        ``tool.command/number``, put into every record.
    rank
        The name of the first field.
    columns
        Fields that the table shows, in order, after the ranking one.
    decimals
        Decimals of the ranking field.
    form
        CSV has a line of names first, and the fields of ``csv_fields``; what is neither number nor text is JSON. None:
        as `written_as` has it.
    csv_fields
        Fields of CSV, in order, after the ranking one; empty: as `written_as` has them.
    order
        Of the rows of a table, by the ranking field; what has none comes last.
    grouped_by
        A field: rows of a table that share its value stand together, in the order of the first records.
    makes_files
        The command's result is files: when the reader of its records goes away, it goes on without them.
    """

    def __init__(
        self,
        schema: str,
        rank: str,
        columns: Sequence[str],
        *,
        decimals: int = 6,
        form: Form | None = None,
        csv_fields: Sequence[str] = (),
        order: Order = Order.highest,
        grouped_by: str = "",
        makes_files: bool = False,
    ) -> None:
        self.schema, self.rank, self.columns, self.decimals = schema, rank, tuple(columns), decimals
        self.written = self.failures = 0
        self._makes_files, self._order, self._grouped_by = makes_files, order, grouped_by
        self._blocks: list[list[Record]] = [[]]
        self._output = output = _output.get() or Output()
        form = output.form if form is None else form
        if output.stream is not None:
            form = Form.jsonl
        elif sys.stdout is None:
            raise ToolError("stdout is closed; give it a file or a pipe")
        self._table = form is Form.table or (form is Form.auto and sys.stdout.isatty())
        named = csv_fields or [name for name in output.fields if name != rank]
        self._csv = (rank, *named) if form is Form.csv else ()
        self._headed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What was found before an interruption is shown too.
        rows = [row for block in self._blocks for row in _ordered(block, self.rank, self._order)]
        if self._grouped_by:
            given = dict.fromkeys(repr(row.get(self._grouped_by)) for block in self._blocks for row in block)
            places = {group: place for place, group in enumerate(given)}
            rows.sort(key=lambda row: places[repr(row.get(self._grouped_by))])
        if rows and kind in (None, KeyboardInterrupt):
            self._write(drawn_table(rows, self.rank, self.columns, self.decimals))
        if kind is None and not self._output.line:
            failed = f", {self.failures:,} of them failed" if self.failures else ""
            self._output.line = many(self.written, "record") + failed

    def sum_up(self, line: str) -> None:
        """Set the line that a run ends with on a terminal, behind its table. Without it that counts records."""
        self._output.line = line

    @property
    def exit_code(self) -> int:
        """3 where some inputs failed, else 0."""
        return InputError.exit_code if self.failures else 0

    def complete(self, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> Record:
        """Build one record: ranking field (null if missing), schema, ``fields``, then what ``through`` knew besides."""
        record: Record = {self.rank: fields.get(self.rank), "schema": self.schema}
        record.update((key, value) for key, value in fields.items() if key not in record)
        for key, value in (through or {}).items():
            record.setdefault(key, value)
        return record

    def emit(
        self, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None, sums_up: bool = False
    ) -> None:
        """Write one record; one that has an ``error`` counts as a failure.

        One that ``sums_up`` those before it stays behind them in a table, whatever its number.
        """
        record = self.complete(fields, through=through)
        self._count(record)
        if self._table:
            self._blocks += [[_plain(record)], []] if sums_up else []
            if not sums_up:
                self._blocks[-1].append(_plain(record))
        elif self._csv:
            self._write_csv(_plain(record))
        else:
            self._write(dump_record(record, decimals=self.decimals))

    def _write(self, data: bytes) -> None:
        if self._output.stream is not None:
            self._output.stream.write(data)
            return
        try:
            write_out(data)
        except ReaderGoneError:
            if not self._makes_files:
                raise
            discard_stdout()

    def _write_csv(self, record: Record) -> None:
        # In a pipe a name stays what it is; on a terminal it must not drive the screen.
        shown = printable if sys.stdout.isatty() else str
        lines = [[shown(csv_cell(record.get(name))) for name in self._csv]]
        number = record[self.rank]
        if isinstance(number, float):
            lines[0][0] = f"{number:.{self.decimals}f}"
        if not self._headed:
            lines.insert(0, list(self._csv))
            self._headed = True
        self._write(b"".join(map(csv_line, lines)))

    def fail(self, error: ToolError, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> None:
        """Write the record of an input that could not be used."""
        self.emit({**fields, **error_fields(error)}, through=through)

    def pass_on(self, record: Mapping[str, Any]) -> None:
        """Write a record of an earlier command as it is; an error in it stays an error of the run."""
        self._count(record)
        if self._table:
            self._blocks[-1].append({self.rank: None, **record})
        elif self._csv:
            self._write_csv({self.rank: None, **record})
        else:
            self._write(dump_record(record, decimals=self.decimals))

    def pass_lines(self, stream: IO[bytes], *, name: str, written: int, failures: int) -> None:
        """Write lines of records as they are, without reading them where lines are what is written.

        Parameters
        ----------
        stream, name
            JSONL that a `RecordWriter` has written; what messages call it.
        written, failures
            How many records there are, and how many have an error.
        """
        if self._table or self._csv:
            for record in read_records(stream, name=name):
                self.pass_on(record)
            return
        self.written += written
        self.failures += failures
        while block := stream.read(1 << 20):
            self._write(block)

    def _count(self, record: Mapping[str, Any]) -> None:
        failed = has_failed(record)
        self.written += 1
        self.failures += failed
        self._output.records += 1
        self._output.failures += failed


def write_out(data: bytes) -> None:
    """Write to stdout and flush; raise `ReaderGoneError` if the reader has gone, `ToolError` on a full disk."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise ToolError(f"stdout: {error.strerror}", kind="write") from None


def discard_stdout() -> None:
    """Discard all that is yet to be flushed: the interpreter's last flush would fail too."""
    _discard(sys.stdout)


def discard_closed() -> None:
    """Discard what is still said to a terminal that is closed, or a reader that has gone: writing would fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or no file of the system
            if stream is not None and _is_closed(stream.fileno()):
                _discard(stream)


def _is_closed(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)  # errors and hang-ups are reported in any case
    return bool(poll.poll(0))


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _ordered(rows: list[Record], rank: str, order: Order) -> list[Record]:
    """Return rows by their ranking field; those that have no number there last."""
    if order is Order.made:
        return rows
    ranked = [row for row in rows if isinstance(row.get(rank), float | int)]
    others = [row for row in rows if not isinstance(row.get(rank), float | int)]
    return [*sorted(ranked, key=lambda row: row[rank], reverse=order is Order.highest), *others]
