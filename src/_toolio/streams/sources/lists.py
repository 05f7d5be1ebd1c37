"""Lists of paths and records: lines on stdin or of a file, rows of a Parquet file; read as they come."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from _toolio.errors import InputError, ToolError, UsageError, param
from _toolio.streams.items import Item, can_name_a_file, named_item
from _toolio.streams.reading import is_cut, lines_of, too_long
from _toolio.streams.records import Record, has_failed, parse_record

LINES = frozenset({".jsonl", ".ndjson", ".txt"})
"""Endings of the names of lists, in lower case: lines of paths or records."""

PARQUET = ".parquet"

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8")
"""How pictures begin, which are sometimes piped into stdin in place of their names."""


def is_list(name: str) -> bool:
    """Test whether a name is that of a list of paths."""
    return PurePosixPath(name).suffix.lower() in {*LINES, PARQUET}


def items_of_lines(stream: IO[bytes], name: str, *, null: bool = False) -> Iterator[Item]:
    """Yield what paths or records name, one a line; a line that begins with ``{`` is a record.

    Parameters
    ----------
    stream
        Lines in UTF-8; other bytes of a path stay what they are.
    name
        Of the stream, for messages.
    null
        Paths end in NUL instead of newline.
    """
    for number, line in enumerate(_split(stream, b"\0", name) if null else lines_of(stream, name), 1):
        text = line.removesuffix(b"\0" if null else b"\n")
        if not text.strip():
            continue
        if number == 1 and text.startswith(_PICTURES):
            raise UsageError(
                f"{name} holds a picture; it takes paths or records: name the picture with {param('inputs')}"
            )
        if number == 1 and not null and b"\0" in text:
            raise UsageError(
                f"{name} is no text; it takes paths or records: give {param('null')} for paths that end in NUL"
            )
        if number == 1 and not null:
            text = text.removeprefix(codecs.BOM_UTF8)
        where = f"{name}, line {number}"
        if is_cut(line):
            yield Item(where, "unnamed", error=too_long(where))
        elif not null and text.lstrip().startswith(b"{"):
            yield _item_of_line(text, where)
        else:
            yield named_item(os.fsdecode(text if null else text.removesuffix(b"\r")))


def _item_of_line(line: bytes, where: str) -> Item:
    try:
        return item_of_record(parse_record(line, where=where), where)
    except InputError as error:
        return Item(where, "unnamed", error=error)


def item_of_record(record: Record, where: str) -> Item:
    """Return the item that a record names, or one that says why it names none; ``where`` is for messages."""
    path = record.get("path")
    if not isinstance(path, str) or not path:
        if has_failed(record) or record.get("path", 0) is None:
            return Item("", "unnamed", record)
        message = f"{where}: the record has no path, or one that is no text"
        return Item(where, "unnamed", record, InputError(message, kind="bad-record"))
    relative = record.get("relative")
    item = named_item(path, relative if isinstance(relative, str) else None, record)
    if not (can_name_a_file(path) and can_name_a_file(item.relative)):
        message = f"{where}: the record's path or relative holds what no file name can"
        return Item(where, "unnamed", record, InputError(message, kind="bad-record"))
    return item


_MAX_PATH = 1 << 16
"""Bytes of a path; no system has longer ones."""


def _split(stream: IO[bytes], end: bytes, name: str, size: int = io.DEFAULT_BUFFER_SIZE) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(size):
        *whole, rest = (rest + block).split(end)
        yield from whole
        if len(rest) > _MAX_PATH:
            raise ToolError(f"{name}: no paths: one of them has no end; end each in NUL", kind="too-large")
    if rest:
        yield rest


def items_of_parquet(file: Any, name: str) -> Iterator[Item]:
    """Yield what the rows of a Parquet file name, a batch at a time.

    The column ``path`` has the paths, or else the only column of texts. Other columns are fields of the record as far
    as JSON has their values: bytes and times are left out.

    Parameters
    ----------
    file
        Its path, or an open file that seeks.
    name
        For messages.

    Raises
    ------
    ToolError
        It is no Parquet file, or which column has the paths cannot be said.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ToolError(
            f"{name}: reading Parquet needs pyarrow; pip install 'epsilon-tools[remote]'", kind="no-package"
        ) from None
    try:
        # Not prefetched: a group of rows would be in memory as a whole.
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER, memory_map=False) as rows:
            column = _path_column(pa, rows.schema_arrow, name)
            batches = rows.iter_batches(batch_size=_ROWS, columns=_plain_columns(pa, rows.schema_arrow, column))
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    where = f"{name}, row {number}"
                    path = row.pop(column)
                    yield item_of_record({"path": "" if path is None else path, **_json_of(row)}, where)
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise ToolError(f"{name}: not a whole Parquet file ({why}); write it again", kind="bad-parquet") from None


_ROWS = 4096
"""Rows that are read at once."""

_BUFFER = 1 << 20


def _path_column(pa: Any, schema: Any, name: str) -> str:
    """Return the name of the column that has the paths."""
    texts = [field.name for field in schema if _is_text(pa, field.type)]
    if "path" in texts:
        return "path"
    if len(texts) != 1:
        found = f"the columns {', '.join(texts)}" if texts else "none"
        raise ToolError(
            f"{name}: which column has the paths? call it path; of columns of texts there are {found}", kind="no-path"
        )
    return str(texts[0])


def _is_text(pa: Any, kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain_columns(pa: Any, schema: Any, path: str) -> list[str]:
    """Return the columns that JSON may have, by their types: bytes are not even read."""
    types = pa.types
    odd = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_temporal, types.is_decimal)
    return [field.name for field in schema if field.name == path or not any(test(field.type) for test in odd)]


def _json_of(row: dict[str, Any]) -> Record:
    """Return the fields of a row that JSON has; NaN and infinity are null, as in all records."""
    return {key: value for key, value in row.items() if _is_json(value)}


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | bool | int | float)
