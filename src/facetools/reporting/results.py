"""Read records of evaluations and trainings, and group them into results."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import STDIN, list_whole, open_items
from _toolio.streams.reading import read_stream
from _toolio.streams.records import Record, has_failed, parse_record

EVALUATE = "facetools.evaluate/1"
TRAIN_ROBUST = "facetools.train-robust/1"
SCHEMAS = (EVALUATE, TRAIN_ROBUST)

KEYS = ("cloak", "attack", "mode", "extractor", "robust", "trainer", "classifier", "preprocess", "seed")
"""Fields that distinguish results. Records may lack most of them."""

GRAPHS = ("protection", "clean_accuracy", "loss", "clean_loss")
"""Figures that a training record may have for each epoch."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input: its name, the sha256 of its bytes and its number of records."""

    name: str
    sha256: str
    records: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record without a figure, or a photo that cannot be shown, and why."""

    source: str
    what: str
    message: str


@dataclass(slots=True)
class Result:
    """Figures of one combination of settings.

    Attributes
    ----------
    source
        The input with its records.
    about
        Those of ``KEYS`` that the records have.
    summary
        The record of all people; computed from theirs where the input has none.
    people
        Their records, least protected first.
    command
        The command line that made the records, where they say it.
    counted
        ``summary`` was computed here.
    """

    source: str
    about: dict[str, str]
    summary: dict[str, Any]
    people: list[dict[str, Any]] = field(default_factory=list)
    command: str | None = None
    counted: bool = False


@dataclass(slots=True)
class Training:
    """One training: a record an epoch, in order, and the command line that made them, where they say it."""

    source: str
    epochs: list[dict[str, Any]]
    command: str | None = None


@dataclass(slots=True)
class Findings:
    """Everything in the inputs."""

    sources: list[Source] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def read_findings(inputs: Sequence[str] | None) -> Findings:
    """Read records of ``facetools evaluate`` and ``train-robust``.

    Parameters
    ----------
    inputs
        Files, folders and archives (their ``.jsonl`` files count), or ``-`` for stdin. None: stdin.

    Raises
    ------
    UsageError
        Nothing was named, or ``-`` twice.
    ToolError
        There is no figure in any input, a record is of another schema, or two are duplicates; the message names file
        and line.
    """
    findings = Findings()
    for name, data in _open(inputs):
        records = list(_numbered(data, name))
        findings.sources.append(Source(name, sha256_of(data), len(records)))
        findings.left_out += [_left_out(record, name) for _, record in records if _has_failed(record)]
        good = [(where, record) for where, record in records if not _has_failed(record)]
        findings.results += _results(name, [pair for pair in good if pair[1]["schema"] == EVALUATE])
        findings.trainings += _trainings(name, [pair for pair in good if pair[1]["schema"] == TRAIN_ROBUST])
    if not findings.results and not findings.trainings:
        raise _nothing(findings)
    return findings


def _nothing(findings: Findings) -> ToolError:
    names = ", ".join(source.name for source in findings.sources)
    if not findings.left_out:
        return ToolError(f"{names}: no record; give what `facetools evaluate` wrote", kind="empty")
    first = findings.left_out[0]
    return ToolError(
        f"{names}: no number to report: all {len(findings.left_out)} records are of failures "
        f"(the first: {first.message}); mend what `facetools evaluate` could not use",
        kind="empty",
    )


def _open(inputs: Sequence[str] | None) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each file of records."""
    names = list(inputs or [])
    if not names or STDIN in names:
        # Refuses a terminal and a second stdin; reads nothing.
        open_items([name for name in names if name == STDIN])
    for name in names or [STDIN]:
        if name == STDIN:
            with of_the_whole_run():
                data = read_stream(sys.stdin.buffer, "stdin")
            yield "stdin", data
            continue
        items = list_whole([name])
        chosen = items if [item.path for item in items] == [name] else [i for i in items if i.path.endswith(".jsonl")]
        if not chosen:
            raise ToolError(f"{name}: no .jsonl file in it; give what `facetools evaluate` wrote", kind="empty")
        for item in chosen:
            with of_the_whole_run():
                data = item.read()
            yield item.path, data


def _numbered(data: bytes, name: str) -> Iterator[tuple[str, Record]]:
    """Yield each record with its file and line."""
    for number, line in enumerate(data.splitlines(), 1):
        where = f"{name}, line {number}"
        if not line.strip():
            continue
        with of_the_whole_run():
            record = parse_record(line, where=where)
        _check_schema(record, where)
        yield where, record


def _check_schema(record: Record, where: str) -> None:
    schema = record.get("schema")
    if schema not in SCHEMAS:
        told = f"schema {schema!a}" if isinstance(schema, str) else "no schema"
        raise ToolError(
            f"{where}: {told} is nothing to report; give records of {' or '.join(SCHEMAS)}", kind="bad-record"
        )


def _has_failed(record: Record) -> bool:
    return has_failed(record) or bool(record.get("reason"))


def _left_out(record: Record, name: str) -> LeftOut:
    what = next((record[key] for key in ("person", "path") if isinstance(record.get(key), str)), "")
    error = record.get("error")
    message = error.get("message") if isinstance(error, dict) else record.get("reason")
    return LeftOut(name, what, str(message or "failed"))


def _number(record: Record, key: str, where: str, *, share: bool = True, optional: bool = False) -> float | None:
    """Return a finite number of a record, between 0 and 1 if it is a share."""
    value = record.get(key)
    if value is None and optional:
        return None
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number) or (share and not 0 <= number <= 1):
        kind = "a number from 0 to 1" if share else "a number"
        raise ToolError(f"{where}: {key} is {value!a:.40}, and not {kind}; was the file edited?", kind="bad-record")
    return number


def _check_result(record: Record, where: str) -> None:
    """Refuse a record of ``evaluate`` whose figures are not finite or out of range."""
    for key in ("protection", "floor"):
        _number(record, key, where)
    for key in ("others_accuracy", "rank1", "rank5"):
        _number(record, key, where, optional=True)
    for key in ("people", "test_photos", "train_photos", "cloaked_photos"):
        _number(record, key, where, share=False, optional=True)
    for key in ("interval", "floor_interval"):
        ends = record.get(key)
        if ends is not None and not (isinstance(ends, list) and len(ends) == 2):
            raise ToolError(f"{where}: {key} is {ends!a}, and not two numbers; was the file edited?", kind="bad-record")
        for end in ends or ():
            _number({key: end}, key, where)
    for key in ("tar", "tar_clean"):
        rates = record.get(key) or {}
        if not isinstance(rates, dict):
            raise ToolError(f"{where}: {key} is {rates!a}, and not rates; was the file edited?", kind="bad-record")
        for rate in rates:
            _number({key: rates[rate]}, key, where, optional=True)


Located = tuple[str, Record]
"""A record's file and line, and the record."""


def _results(name: str, records: Iterable[Located]) -> list[Result]:
    """Group the records of one input by their settings, whatever their order."""
    groups: dict[tuple[str | None, ...], list[Located]] = {}
    for where, record in records:
        _check_result(record, where)
        key = tuple(None if record.get(each) is None else str(record[each]) for each in KEYS)
        groups.setdefault(key, []).append((where, record))
    return [
        _result(name, {each: value for each, value in zip(KEYS, key, strict=True) if value is not None}, group)
        for key, group in groups.items()
    ]


def _result(name: str, about: dict[str, str], group: Sequence[Located]) -> Result:
    _refuse_twice(group, lambda record: record.get("person"), "result of the same cloak, trainer, person and seed")
    everybody = [record for _, record in group if record.get("person") is None]
    people = [record for _, record in group if record.get("person") is not None]
    people.sort(key=lambda record: (record["protection"], str(record["person"])))
    command = next((record["command"] for _, record in group if isinstance(record.get("command"), str)), None)
    if everybody:
        return Result(name, about, everybody[0], people, command)
    for where, record in group:
        _number(record, "rank1", where)
        _number(record, "rank5", where, optional=True)  # of two names there is none
    from facetools.evaluation.summary import summarise

    blank = {"others_accuracy": None, "train_photos": 0, "cloaked_photos": 0, "test_photos": 0}
    counted = summarise([{**blank, **record} for record in people], folds=people[0].get("folds"))
    return Result(name, about, counted, people, command, counted=True)


def _refuse_twice(group: Iterable[Located], key: Callable[[Record], Any], what: str) -> None:
    """Refuse two records with one key: which of them counts is unknown."""
    seen: dict[str, str] = {}
    for where, record in group:
        value = repr(key(record))
        if value in seen:
            raise ToolError(
                f"{where}: a second {what}; the first is at {seen[value]}: give each run a file of its own",
                kind="twice",
            )
        seen[value] = where


def _trainings(name: str, records: Sequence[Located]) -> list[Training]:
    if not records:
        return []
    for where, record in records:
        _number(record, "epoch", where, share=False)
        for key in GRAPHS:
            # Before the first epoch there is no loss, nor for what lies between two epochs' weights.
            _number(record, key, where, share="loss" not in key, optional=True)
    _refuse_twice(records, lambda record: (record["epoch"], record.get("blend")), "record of this epoch")
    epochs = sorted((record for _, record in records), key=lambda record: float(record["epoch"]))
    command = next((record["command"] for record in epochs if isinstance(record.get("command"), str)), None)
    return [Training(name, epochs, command)]


def varying(results: Sequence[Result], keys: Sequence[str] = KEYS) -> list[str]:
    """Return those of ``keys`` in which results differ."""
    return [key for key in keys if len({result.about.get(key) for result in results}) > 1]


def share_of(record: Mapping[str, Any], key: str) -> float | None:
    """Return a number of a checked record as a float."""
    value = record.get(key)
    return None if value is None else float(value)
