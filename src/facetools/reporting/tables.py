"""The tables of a report: built once, written as Markdown, CSV and, by ``page``, HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _toolio.words import printable
from facetools.attacks.origins import is_origin
from facetools.reporting.results import GRAPHS, KEYS, Findings, Result, Training

Cell = Any
Show = Callable[[Cell], str]

KEY_TITLES = {"robust": "robust extractor"}
"""Titles of keys, where they differ from the key."""


def words(value: Cell) -> str:
    """Show a text or a whole number; nothing for None."""
    return "" if value is None else printable(f"{value:g}" if isinstance(value, float) else str(value))


def percent(value: Cell) -> str:
    """Show a share: ``12.3%``; nothing for None."""
    return "" if value is None else f"{100 * value:.1f}%"


def interval(ends: Cell) -> str:
    """Show two ends of an interval of shares: ``1.0 to 12.3``; nothing for None."""
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def loss(value: Cell) -> str:
    """Show a loss; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def origin(value: Cell) -> str:
    """Show the extractors that cloaks were made against."""
    if not is_origin(value):
        return "not known"
    return ", ".join(value) or "nothing"


def yes_or_no(value: Cell) -> str:
    """Show whether something is so, and ``not known`` for neither."""
    return ("yes" if value else "no") if isinstance(value, bool) else "not known"


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading and the format of its cells; numbers are right-aligned."""

    title: str
    show: Show = words

    @property
    def is_number(self) -> bool:
        """Whether its cells are shares, losses or counts."""
        return self.show is not words or self.title in COUNTS


COUNTS = ("n people", "n photos", "trained on", "cloaked", "asked", "epoch")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title: columns, and rows of as many cells."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def without_empty(self) -> Table:
        """Leave out columns in which no row has anything."""
        kept = [n for n in range(len(self.columns)) if any(row[n] not in (None, "") for row in self.rows)]
        return Table(self.title, [self.columns[n] for n in kept], [[row[n] for n in kept] for row in self.rows])

    def shown(self) -> Iterator[list[str]]:
        """Yield the cells of each row as text."""
        for row in self.rows:
            yield [column.show(cell) for column, cell in zip(self.columns, row, strict=True)]


def rates_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the false accept rates (FAR) in any of the records, largest first."""
    rates = {rate for record in records for key in ("tar", "tar_clean") for rate in record.get(key) or ()}
    return sorted(rates, key=lambda rate: (-_rate(rate), rate))


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def summary_table(results: Sequence[Result]) -> Table:
    """Build the table with a row for each result, numbered from 1."""
    rates = rates_of(result.summary for result in results)
    several = len({result.source for result in results}) > 1
    columns = [Column("no."), *(Column(KEY_TITLES.get(key, key)) for key in KEYS[:-1])]
    columns += [Column("made against"), Column("white box")]
    columns += [Column("protection", percent), Column("95% interval", interval), Column("no interval because")]
    columns += [Column("floor", percent), Column("floor's 95% interval", interval)]
    columns += [Column("others named rightly", percent), Column("rank-5", percent)]
    for rate in rates:
        columns += [Column(f"TAR at FAR {rate}", percent), Column(f"clean TAR at FAR {rate}", percent)]
    columns += [Column("n people"), Column("n photos"), Column("seed"), Column("file")]
    rows = []
    for number, result in enumerate(results, 1):
        one = result.summary
        row: list[Cell] = [number, *(result.about.get(key) for key in KEYS[:-1])]
        row += [origin(one.get("made_against")), yes_or_no(one.get("white_box"))]
        row += [one.get(key) for key in ("protection", "interval", "caution", "floor", "floor_interval")]
        row += [one.get("others_accuracy"), one.get("rank5")]
        for rate in rates:
            row += [(one.get("tar") or {}).get(rate), (one.get("tar_clean") or {}).get(rate)]
        row += [one.get("people"), one.get("test_photos"), result.about.get("seed"), result.source if several else None]
        rows.append(row)
    return Table("Results", columns, rows).without_empty()


def people_table(number: int, result: Result) -> Table:
    """Build the table of one result's people, least protected first."""
    columns = [Column("person"), Column("protection", percent), Column("floor", percent)]
    columns += [Column("others named rightly", percent), Column("rank-5", percent)]
    columns += [Column("trained on"), Column("cloaked"), Column("asked")]
    keys = ("protection", "floor", "others_accuracy", "rank5", "train_photos", "cloaked_photos", "test_photos")
    rows = [[str(record["person"]), *(record.get(key) for key in keys)] for record in result.people]
    return Table(f"People of result {number}", columns, rows).without_empty()


def training_table(number: int, training: Training) -> Table:
    """Build the table of one training's epochs."""
    columns = [Column("epoch"), Column("protection", percent), Column("clean accuracy", percent)]
    columns += [Column("loss", loss), Column("clean loss", loss)]
    rows = [[epoch["epoch"], *(epoch.get(key) for key in GRAPHS)] for epoch in training.epochs]
    return Table(f"Training {number}", columns, rows).without_empty()


def markdown(findings: Findings, title: str) -> str:
    """Write all tables as Markdown."""
    blocks = [f"# {_md(title)}"]
    tables = [summary_table(findings.results)] if findings.results else []
    tables += [people_table(n, each) for n, each in enumerate(findings.results, 1) if each.people]
    tables += [training_table(n, each) for n, each in enumerate(findings.trainings, 1)]
    if findings.left_out:
        rows = [[each.what, each.message, each.source] for each in findings.left_out]
        tables.append(Table("Left out", [Column("what"), Column("why"), Column("file")], rows))
    for table in tables:
        lines = [[_md(column.title) for column in table.columns]]
        lines += [["---:" if column.is_number else "---" for column in table.columns]]
        lines += [[_md(cell) for cell in row] for row in table.shown()]
        drawn = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        blocks.append(f"## {_md(table.title)}\n\n{drawn}")
    return "\n\n".join(blocks) + "\n"


def _md(text: str) -> str:
    """Escape a name: it ends no table cell and begins no markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", printable(text))


def tidy_csv(findings: Findings) -> str:
    """Write all figures as CSV, one row for each result, person and epoch; the first column says which.

    Shares are from 0 to 1. A text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    summaries = [result.summary for result in findings.results]
    rates = rates_of([*summaries, *(record for result in findings.results for record in result.people)])
    out = io.StringIO()
    columns = ["table", "number", *KEYS, "made_against", "white_box", "person", "people"]
    columns += ["protection", "protection_low", "protection_high", "caution"]
    columns += ["floor", "floor_low", "floor_high", "others_accuracy", "rank1", "rank5"]
    columns += [f"{key}_{rate}" for rate in rates for key in ("tar", "tar_clean")]
    columns += ["train_photos", "cloaked_photos", "test_photos", "epoch", "clean_accuracy", "loss", "clean_loss"]
    columns += ["file", "command"]
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in _tidy_rows(findings):
        writer.writerow({key: _csv(value) for key, value in row.items()})
    return out.getvalue()


def _tidy_rows(findings: Findings) -> Iterator[dict[str, Cell]]:
    for number, result in enumerate(findings.results, 1):
        about = {"number": number, **result.about, "file": result.source, "command": result.command}
        yield {"table": "result", **about, **_flat(result.summary)}
        for record in result.people:
            yield {"table": "person", **about, "person": str(record["person"]), **_flat(record)}
    for number, training in enumerate(findings.trainings, 1):
        about = {"number": number, "file": training.source, "command": training.command}
        for epoch in training.epochs:
            yield {"table": "training", **about, "epoch": epoch["epoch"], **{key: epoch.get(key) for key in GRAPHS}}


def _flat(record: Mapping[str, Any]) -> dict[str, Cell]:
    """Return a record's figures, one a column."""
    plain = ("protection", "floor", "others_accuracy", "rank1", "rank5")
    counts = ("people", "train_photos", "cloaked_photos", "test_photos")
    row: dict[str, Cell] = {key: record.get(key) for key in (*plain, *counts)}
    for key, name in (("interval", "protection"), ("floor_interval", "floor")):
        row[f"{name}_low"], row[f"{name}_high"] = record.get(key) or (None, None)
    row |= {"made_against": origin(record.get("made_against")), "white_box": yes_or_no(record.get("white_box"))}
    row["caution"] = record.get("caution")
    for key in ("tar", "tar_clean"):
        row |= {f"{key}_{rate}": value for rate, value in (record.get(key) or {}).items()}
    return row


def _csv(value: Cell) -> Cell:
    if isinstance(value, float):
        return f"{value:.6f}"
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@" else text
