"""Parse what names the tensors to tune: groups, layers, patterns, and lines of names or of layerdiff's records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from _toolio.errors import UsageError, of_the_whole_run, param
from _toolio.streams.records import Record, parse_record
from berttools.checkpoints.groups import KNOWN_GROUPS

Span = tuple[int, int, int]
"""Rows (axis 0) or columns (axis 1) of a matrix: axis, start and stop."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a line names: a tensor or a part of it, or all tensors of a layer, of a group, or of both.

    Attributes
    ----------
    where
        The line's place, for messages.
    name, layer, group
        None if the line has none.
    span
        The part of the tensor ``name``; None for all of it.
    without
        ``"layer"`` or ``"group"`` for all tensors that belong to none, such as the embeddings.
    stack
        Which of several stacks the layer is of; None for that layer of all.
    record
        Whether the line is a record, such as one of layerdiff, and no name alone.
    """

    where: str
    name: str | None = None
    layer: int | None = None
    group: str | None = None
    span: Span | None = None
    without: str | None = None
    stack: str | None = None
    record: bool = False


def parse_freeze(words: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sort words into patterns and groups (``Q,K``); UsageError for what is neither."""
    patterns: list[str] = []
    groups: list[str] = []
    for word in words:
        if set(word.split(",")) <= set(KNOWN_GROUPS):
            groups += word.split(",")
        else:
            patterns.append(check_pattern(word, "freeze"))
    return tuple(patterns), tuple(dict.fromkeys(groups))


def check_pattern(text: str, name: str) -> str:
    """Return a regular expression; UsageError for what is none, with the parameter's name."""
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(f"{param(name)} {text}: is no regular expression: {error}") from None
    return text


def parse_groups(text: str | None) -> tuple[str, ...] | None:
    """Parse groups such as ``Q,K``; UsageError for what is no group."""
    if text is None:
        return None
    groups = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if wrong := next((group for group in groups if group not in KNOWN_GROUPS), None):
        raise UsageError(f"{param('group')} {text}: {wrong!r} is none of {', '.join(KNOWN_GROUPS)}")
    return groups


def parse_layers(text: str | None) -> frozenset[int] | None:
    """Parse layers such as ``0,8-11``; UsageError for what is no such list."""
    if text is None:
        return None
    found: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UsageError(f"{param('layers')} {text}: say 8-11, or 0,2,8-11")
        found |= set(range(first, last + 1))
    return frozenset(found)


def read_named(lines: Iterable[bytes]) -> tuple[Named, ...]:
    """Parse lines of stdin: each a tensor's name, or a record with ``name``, or with ``layer`` or ``group``.

    Raises
    ------
    ToolError, UsageError
        If a line is neither, or there is none.
    """
    named = []
    for number, line in enumerate(lines, 1):
        where = f"stdin, line {number}"
        if not line.strip():
            continue
        if line.lstrip().startswith(b"{"):
            with of_the_whole_run():
                record = parse_record(line, where=where)
            # A tensor that only one of two models has is none to tune.
            if not any(record.get(key) for key in ("only_in", "tied_base", "error")):
                named.append(_of_record(record, where))
        else:
            named.append(Named(where, line.strip().decode(errors="replace")))
    if not named:
        raise UsageError(f"{param('only')} -: stdin names no tensor")
    return tuple(named)


def _of_record(record: Record, where: str) -> Named:
    name, layer, group = (record.get(key) for key in ("name", "layer", "group"))
    if isinstance(name, str) and name:
        return Named(where, name, span=_span_of(record.get("part"), where), record=True)
    by = record.get("by")
    if by in ("layer", "group") and by in record and layer is group is None:
        return Named(where, without=str(by))
    known = (layer is None or type(layer) is int) and (group is None or isinstance(group, str))
    if known and not layer is group is None:
        stack = record.get("stack")
        return Named(where, None, layer, group, stack=stack if isinstance(stack, str) else None)
    raise UsageError(f"{param('only')} -: {where}: the record has no name, no layer and no group")


def _span_of(part: object, where: str) -> Span | None:
    if part is None:
        return None
    axis, start, stop = (part.get(key) if isinstance(part, dict) else None for key in ("axis", "start", "stop"))
    if type(axis) is int and type(start) is int and type(stop) is int:
        return axis, start, stop
    raise UsageError(f"{param('only')} -: {where}: the record's part is no axis, start and stop")
