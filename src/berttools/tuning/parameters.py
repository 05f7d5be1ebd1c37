"""Which tensors of a model are tuned: by name, pattern, group and layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from _toolio.errors import UsageError, of_the_whole_run
from _toolio.streams.records import Record, parse_record
from berttools.checkpoints.groups import GROUPS, Grouping

Span = tuple[int, int, int]
"""Rows (axis 0) or columns (axis 1) of a matrix: axis, start and stop."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a line of ``--only -`` names: a tensor or a part of it, or all of a layer, a group, or both.

    Attributes
    ----------
    where
        The line.
    name, layer, group
        None where the line does not say.
    span
        The part of the tensor called ``name``; None for all of it.
    without
        ``"layer"`` or ``"group"`` for all tensors that belong to none, such as the embeddings.
    """

    where: str
    name: str | None = None
    layer: int | None = None
    group: str | None = None
    span: Span | None = None
    without: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; a tensor is tuned if everything that is given admits it.

    Attributes
    ----------
    named
        Lines of stdin; None where none were read.
    patterns
        Regular expressions, one of which must be found in the name.
    groups, layers
        None for all.
    freeze
        Regular expressions that must not be found in the name.
    freeze_groups
        Groups that are not tuned.
    """

    named: tuple[Named, ...] | None = None
    patterns: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    layers: frozenset[int] | None = None
    freeze: tuple[str, ...] = ()
    freeze_groups: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing was asked for."""
        return self == Choice()

    def resolve(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        base: Mapping[str, str],
        head: Collection[str],
        others: Collection[str] = (),
    ) -> list[str]:
        """Give the names of the tensors to tune, in the order of ``shapes``.

        Parameters
        ----------
        shapes
            Every parameter of the model.
        base
            Its name to that in the base's files, where it has one: names may be of either kind.
        head
            Parameters that are tuned unless they are frozen by name.
        others
            Tensors of the base that are no parameters here, such as another task's head: naming them does nothing.

        Raises
        ------
        UsageError
            Something that was asked for is not there, or nothing is left to tune.
        """
        places = {name: _place(name, shape) for name, shape in shapes.items()}
        self._check(places, base, others)
        self._check_spans(shapes, base)
        wanted = _Wanted(self.named or (), base)
        chosen, admitted = [], False
        for name, (layer, groups) in places.items():
            frozen = _matches(self.freeze, name, base) or bool(groups & set(self.freeze_groups))
            found = not frozen and (
                (self.named is None or bool(wanted.hits(name, shapes[name])))
                and (not self.patterns or _matches(self.patterns, name, base))
                and (self.groups is None or bool(groups & set(self.groups)))
                and (self.layers is None or layer in self.layers)
            )
            admitted |= found
            if found or (name in head and not frozen):
                chosen.append(name)
        if not admitted:
            raise UsageError("no tensor fits all of --only, --group, --layers and --freeze: nothing is left to tune")
        return chosen

    def spans(
        self,
        tuned: Iterable[str],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        base: Mapping[str, str],
        head: Collection[str],
    ) -> dict[str, tuple[Span, ...]]:
        """Return which rows or columns to tune of each tensor that lines of stdin name in part only.

        Parameters
        ----------
        tuned
            What ``resolve`` has returned.
        shapes, base, head
            As of ``resolve``. A head is tuned whole.

        Raises
        ------
        UsageError
            Rows and columns of one tensor are named.
        """
        if self.named is None:
            return {}
        wanted = _Wanted(self.named, base)
        found = {name: _merged(name, wanted.hits(name, shapes[name])) for name in tuned if name not in head}
        return {
            name: spans
            for name, spans in found.items()
            if spans and spans != ((spans[0][0], 0, shapes[name][spans[0][0]]),)
        }

    def _check(
        self,
        places: Mapping[str, tuple[int | None, frozenset[str]]],
        base: Mapping[str, str],
        others: Collection[str],
    ) -> None:
        known = {*places, *base.values(), *others}
        cells = {(layer, group) for layer, groups in places.values() for group in (None, *groups)}
        cells |= {(None, group) for _, group in cells}
        without = {"layer" for layer, _ in places.values() if layer is None}
        without |= {"group" for _, groups in places.values() if not groups}
        for each in self.named or ():
            if each.without:
                if each.without not in without:
                    raise UsageError(f"--only: {each.where}: every tensor of the model has a {each.without}")
                continue
            if each.name and each.name not in known:
                hint = "; records are wanted, or a name a line: no table" if "," in each.name else ""
                raise UsageError(f"--only: {each.where}: the model has no tensor {each.name[:80]}{hint}")
            if not each.name and (each.layer, each.group) not in cells:
                what = " ".join(
                    f"{kind} {value}"
                    for kind, value in (("layer", each.layer), ("group", each.group))
                    if value is not None
                )
                raise UsageError(f"--only: {each.where}: the model has no {what}")
        for option, groups in (("--group", self.groups or ()), ("--freeze", self.freeze_groups)):
            _check_groups(option, groups, places)
        layers = sorted({layer for layer, _ in places.values() if layer is not None})
        if self.layers is not None and (missing := sorted(self.layers - set(layers))):
            have = f"its layers are {layers[0]} to {layers[-1]}" if layers else "no layer of it is known"
            raise UsageError(f"--layers {missing[0]}: the model has none such; {have}")
        for option, patterns in (("--only", self.patterns), ("--freeze", self.freeze)):
            for pattern in patterns:
                if not any(_matches((pattern,), name, base) for name in places):
                    raise UsageError(f"{option} {pattern}: fits no tensor of the model")

    def _check_spans(self, shapes: Mapping[str, tuple[int, ...]], base: Mapping[str, str]) -> None:
        stored = {other: name for name, other in base.items()}
        for each in self.named or ():
            shape = shapes.get(stored.get(each.name or "", each.name or ""))
            if each.span is None or shape is None:
                continue
            axis, start, stop = each.span
            if len(shape) != 2 or axis not in (0, 1) or not 0 <= start < stop <= shape[axis]:
                raise UsageError(
                    f"--only: {each.where}: {each.name} of shape {list(shape)} has no part of axis {axis} from"
                    f" {start} to {stop}; are the records of another model?"
                )


class _Wanted:
    """Lines of stdin, sorted by what they name, so that each tensor is looked up once."""

    def __init__(self, named: Iterable[Named], base: Mapping[str, str]) -> None:
        stored = {other: name for name, other in base.items()}
        self._names: dict[str, list[Span | None]] = {}
        self._cells: set[tuple[int | None, str | None]] = set()
        self._without: set[str] = set()
        for each in named:
            if each.name:
                self._names.setdefault(stored.get(each.name, each.name), []).append(each.span)
            elif each.without:
                self._without.add(each.without)
            else:
                self._cells.add((each.layer, each.group))

    def hits(self, name: str, shape: tuple[int, ...]) -> list[Span | None]:
        """Return the parts of a tensor that lines name, None for all of it; empty where none does."""
        found = list(self._names.get(name, ()))
        for part in Grouping().parts(name, shape):
            span = None if part.axis is None else (part.axis, part.start, part.stop)
            if part.layer is not None and (part.layer, None) in self._cells:
                found.append(None)
            if part.group is not None and self._cells & {(part.layer, part.group), (None, part.group)}:
                found.append(span)
            if ("layer" in self._without and part.layer is None) or ("group" in self._without and part.group is None):
                found.append(None)
        return found


def _merged(name: str, spans: Sequence[Span | None]) -> tuple[Span, ...]:
    """Join parts that meet or overlap; none are left where one is the whole tensor."""
    parts = [span for span in spans if span is not None]
    if len(parts) != len(spans):
        return ()
    if len({axis for axis, _, _ in parts}) > 1:
        raise UsageError(f"--only: stdin names rows and columns of {name}; give one kind, or its name alone")
    merged: list[Span] = []
    for axis, start, stop in sorted(parts):
        if merged and start <= merged[-1][2]:
            merged[-1] = (axis, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((axis, start, stop))
    return tuple(merged)


def _place(name: str, shape: tuple[int, ...]) -> tuple[int | None, frozenset[str]]:
    """Give a tensor's layer, and every group that its matrix holds."""
    parts = Grouping().parts(name, shape)
    return parts[0].layer, frozenset(part.group for part in parts if part.group)


def groups_of(name: str, shape: tuple[int, ...]) -> frozenset[str]:
    """Give every group that a tensor's matrix holds."""
    return _place(name, shape)[1]


def _check_groups(
    option: str, wanted: Collection[str], places: Mapping[str, tuple[int | None, frozenset[str]]]
) -> None:
    """Refuse a group that the model lacks, and part of a matrix: it is tuned or frozen as a whole."""
    there = {group for _, groups in places.values() for group in groups}
    if missing := next((group for group in wanted if group not in there), None):
        raise UsageError(f"{option} {missing}: no matrix of the model is known as one; name it with --only REGEX")
    for name, (_, groups) in places.items():
        if groups & set(wanted) and not groups <= set(wanted):
            held = ",".join(group for group in GROUPS if group in groups)
            raise UsageError(f"{option} {','.join(wanted)}: {name} holds {held} in one; give all of them")


def _matches(patterns: Iterable[str], name: str, base: Mapping[str, str]) -> bool:
    return any(re.search(pattern, each) for pattern in patterns for each in {name, base.get(name, name)})


def parse_freeze(words: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell groups (``Q,K``) from regular expressions: gives patterns, groups. UsageError for what is neither."""
    patterns: list[str] = []
    groups: list[str] = []
    for word in words:
        if set(word.split(",")) <= set(GROUPS):
            groups += word.split(",")
        else:
            patterns.append(check_pattern(word, "--freeze"))
    return tuple(patterns), tuple(dict.fromkeys(groups))


def check_pattern(text: str, option: str) -> str:
    """Refuse what is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(f"{option} {text}: is no regular expression: {error}") from None
    return text


def parse_groups(text: str | None) -> tuple[str, ...] | None:
    """Read ``--group Q,K``; UsageError for what is no group."""
    if text is None:
        return None
    groups = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if wrong := next((group for group in groups if group not in GROUPS), None):
        raise UsageError(f"--group {text}: {wrong!r} is none of {', '.join(GROUPS)}")
    return groups


def parse_layers(text: str | None) -> frozenset[int] | None:
    """Read ``--layers 0,8-11``; UsageError for what is no such list."""
    if text is None:
        return None
    found: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UsageError(f"--layers {text}: say 8-11, or 0,2,8-11")
        found |= set(range(first, last + 1))
    return frozenset(found)


def read_named(lines: Iterable[bytes]) -> tuple[Named, ...]:
    """Read what stdin names: names of tensors, or records with ``name``, or with ``layer`` or ``group``, a line.

    Raises
    ------
    ToolError, UsageError
        A line is neither, or there is none.
    """
    named = []
    for number, line in enumerate(lines, 1):
        where = f"stdin, line {number}"
        if not line.strip():
            continue
        if line.lstrip().startswith(b"{"):
            with of_the_whole_run():
                record = parse_record(line, where=where)
            if "only_in" not in record and "error" not in record:  # what no two models have in common
                named.append(_of_record(record, where))
        else:
            named.append(Named(where, line.strip().decode(errors="replace")))
    if not named:
        raise UsageError("--only -: stdin names no tensor")
    return tuple(named)


def _of_record(record: Record, where: str) -> Named:
    name, layer, group = (record.get(key) for key in ("name", "layer", "group"))
    if isinstance(name, str) and name:
        return Named(where, name, span=_span_of(record.get("part"), where))
    by = record.get("by")
    if by in ("layer", "group") and by in record and layer is group is None:
        return Named(where, without=str(by))
    known = (layer is None or type(layer) is int) and (group is None or isinstance(group, str))
    if known and not layer is group is None:
        return Named(where, None, layer, group)
    raise UsageError(f"--only -: {where}: the record has no name, no layer and no group")


def _span_of(part: object, where: str) -> Span | None:
    if part is None:
        return None
    axis, start, stop = (part.get(key) if isinstance(part, dict) else None for key in ("axis", "start", "stop"))
    if type(axis) is int and type(start) is int and type(stop) is int:
        return axis, start, stop
    raise UsageError(f"--only -: {where}: the record's part is no axis, start and stop")
