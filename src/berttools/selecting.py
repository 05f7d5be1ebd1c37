"""Which tensors of a model are tuned: by name, pattern, group and layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from _toolio.errors import UsageError, of_the_whole_run
from _toolio.records import Record, parse_record
from berttools.groups import GROUPS, place

__all__ = ["Choice", "Named", "parse_groups", "parse_layers", "read_named"]


@dataclass(frozen=True, slots=True)
class Named:
    """What a line of ``--only -`` names: a tensor, or all of a layer, a group, or both."""

    where: str
    name: str | None = None
    layer: int | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; a tensor is tuned if everything that is given admits it.

    Attributes
    ----------
    named
        Lines of stdin; None where none were read.
    patterns, freeze
        Regular expressions that are looked for in names: one of the first must be there, none of the second.
    groups, layers
        None for all.
    """

    named: tuple[Named, ...] | None = None
    patterns: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    layers: frozenset[int] | None = None
    freeze: tuple[str, ...] = ()
    about: dict[str, object] = field(default_factory=dict)
    """The options as they were given, for the record of how a model was made."""

    @property
    def everything(self) -> bool:
        """Whether nothing was asked for."""
        return self.named is None and not (self.patterns or self.freeze) and self.groups is None and self.layers is None

    def resolve(
        self, shapes: Mapping[str, tuple[int, ...]], *, base: Mapping[str, str], head: Collection[str]
    ) -> list[str]:
        """Give the names of the tensors to tune, in the order of ``shapes``.

        Parameters
        ----------
        shapes
            Every parameter of the model.
        base
            Its name to that in the base's files, where it has one: names may be of either kind.
        head
            Parameters that are tuned whatever was asked for.

        Raises
        ------
        UsageError
            Something that was asked for is not there, or nothing is left to tune besides the head.
        """
        places = {name: place(name, shape) for name, shape in shapes.items()}
        self._check(places.values(), shapes, base)
        stored = {name: other for other, name in base.items()}
        by_name = {stored.get(each.name, each.name) for each in self.named or () if each.name}
        by_place = {(each.layer, each.group) for each in self.named or () if not each.name}
        chosen = []
        for name in shapes:
            layer, group = places[name]
            alike = {(layer, group), (layer, None), (None, group)} - {(None, None)}
            admitted = (
                (self.named is None or name in by_name or bool(alike & by_place))
                and (not self.patterns or _matches(self.patterns, name, base))
                and (self.groups is None or group in self.groups)
                and (self.layers is None or layer in self.layers)
                and not (self.freeze and _matches(self.freeze, name, base))
            )
            if admitted or name in head:
                chosen.append(name)
        if not self.everything and head.__len__() and set(chosen) <= set(head) and not self._means_head_only:
            raise UsageError("no tensor is left to tune besides the head; give --freeze . alone to tune just that")
        return chosen

    @property
    def _means_head_only(self) -> bool:
        """Whether everything was frozen on purpose."""
        return bool(self.freeze) and self.named is None and not self.patterns and self.groups is self.layers is None

    def _check(
        self, places: Iterable[tuple[int | None, str | None]], shapes: Collection[str], base: Mapping[str, str]
    ) -> None:
        places = list(places)
        layers, groups = {layer for layer, _ in places}, {group for _, group in places}
        known = {*shapes, *base.values()}
        for each in self.named or ():
            if each.name and each.name not in known:
                raise UsageError(f"--only: {each.where}: the model has no tensor {each.name}")
            if each.layer not in layers | {None} or each.group not in groups | {None}:
                raise UsageError(f"--only: {each.where}: the model has no layer {each.layer}, or no {each.group} there")
        for group in self.groups or ():
            if group not in groups:
                raise UsageError(f"--group {group}: no matrix of the model is known as one; name it with --only")
        if self.layers is not None and (missing := sorted(self.layers - layers)):
            there = sorted(layer for layer in layers if layer is not None)
            have = f"its layers are {there[0]} to {there[-1]}" if there else "no layer of it is known"
            raise UsageError(f"--layers {missing[0]}: the model has none; {have}")
        for option, patterns in (("--only", self.patterns), ("--freeze", self.freeze)):
            for pattern in patterns:
                if not any(_matches((pattern,), name, base) for name in shapes):
                    raise UsageError(f"{option} {pattern}: fits no tensor of the model")


def _matches(patterns: Iterable[str], name: str, base: Mapping[str, str]) -> bool:
    return any(re.search(pattern, each) for pattern in patterns for each in {name, base.get(name, name)})


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
            named.append(_of_record(record, where))
        else:
            named.append(Named(where, line.strip().decode(errors="replace")))
    if not named:
        raise UsageError("--only -: stdin names no tensor")
    return tuple(named)


def _of_record(record: Record, where: str) -> Named:
    name, layer, group = (record.get(key) for key in ("name", "layer", "group"))
    if isinstance(name, str) and name:
        return Named(where, name)
    if (layer is None or type(layer) is int) and (group is None or isinstance(group, str)) and (layer, group) != (None,) * 2:
        return Named(where, None, layer, group)
    raise UsageError(f"--only -: {where}: the record has no name, no layer and no group")
