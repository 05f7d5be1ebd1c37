"""Draw records as rows of CSV and as tables."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from _toolio.words import printable


def csv_cell(value: Any) -> str:
    """Return a field as a cell of CSV: a text as it is, a number with all its digits, nothing for null, else JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def csv_line(cells: Sequence[str]) -> bytes:
    """Return a row as RFC 4180 quotes it, in UTF-8; it ends in a newline alone."""
    import csv

    out = io.StringIO()
    # Not lineterminator="\n": Python 3.11 quotes a carriage return only where the end of a line has one.
    csv.writer(out).writerow(cells)
    return _bytes_of(out.getvalue().removesuffix("\r\n") + "\n")


def _bytes_of(text: str) -> bytes:
    """Return a text in UTF-8; names that were none as their bytes, and half of a surrogate pair as its escape."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        halves = re.sub("[\ud800-\udc7f\udd00-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
        return halves.encode("utf-8", "surrogateescape")


def drawn_table(rows: Sequence[Mapping[str, Any]], rank: str, columns: Sequence[str], decimals: int) -> bytes:
    """Return the records as a table; a column that no record fills is left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [name for name in (*columns, "error") if any(row.get(name) is not None for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(rank, justify="right", no_wrap=True)
    for name in shown:
        # Long paths fold instead of vanishing: a table that hides which file it speaks of is of no use.
        table.add_column(name, overflow="fold", style="red" if name == "error" else "")
    for row in rows:
        number = row.get(rank)
        first = f"{number:.{min(decimals, 6)}f}" if isinstance(number, float) else _cell(number)
        cells = [_cell(row.get(name)) for name in shown]
        # Text, not markup: a file may be called "[red].jpg"; and no control character of a name reaches the screen.
        table.add_row(*(Text(printable(cell)) for cell in (first, *cells)))
    # A pipe has no width that cells would have to fold into.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    # Not printed by rich, which ends a process whose reader has gone by itself.
    with console.capture() as captured:
        console.print(table)
    return captured.get().encode(sys.stdout.encoding, "backslashreplace")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as in JSON
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and value and all(isinstance(item, float | int) for item in value):
        # Pixels are shown as whole numbers, shares with their fractions.
        form = ".0f" if max(map(abs, value)) >= 10 else ".4g"
        return " ".join(f"{item:{form}}" if isinstance(item, float) else str(item) for item in value)
    if isinstance(value, dict) and "message" in value:
        return str(value["message"])
    return "" if value is None else str(value)
