"""Select the tensors of a model to tune: by name, pattern, group and layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from _toolio.errors import UsageError, param
from berttools.checkpoints.groups import KNOWN_GROUPS, Grouping
from berttools.tuning.parameter_names import Named, Span

_Cell = tuple[int | None, frozenset[str]]
"""A tensor's layer, None outside all, and every group that its matrix holds."""


@dataclass(frozen=True, slots=True)
class ParameterSelection:
    """Which tensors to tune: those that every given criterion selects.

    Attributes
    ----------
    named
        What lines of stdin name; None if none were read.
    patterns
        Regular expressions, one of which must match in the name.
    groups, layers
        None for all.
    freeze
        Regular expressions that must not match in the name.
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
        """Whether there is no criterion, so that all tensors are tuned."""
        return self == ParameterSelection()

    def doubt(self, shapes: Mapping[str, tuple[int, ...]], *, base: Mapping[str, str]) -> str | None:
        """Return a warning if most tensors that records on stdin name are no matrices of a layer, else None.

        Biases and norms move far and hold little: ranked by how far they moved they come before the matrices.
        """
        stored = {other: name for name, other in base.items()}
        ranked = {stored.get(each.name, each.name) for each in self.named or () if each.record and each.name}
        ranked &= shapes.keys()
        others = [name for name in ranked if not groups_of(name, shapes[name])]
        if 2 * len(others) <= len(ranked) or not any(groups_of(name, shape) for name, shape in shapes.items()):
            return None
        return (
            f"{param('only')} -: {len(others)} of the {len(ranked)} tensors that stdin names are biases, norms or"
            " embeddings, no matrices of a layer; have layerdiff rank matrices alone"
        )

    def resolve(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        base: Mapping[str, str],
        head: Collection[str],
        others: Collection[str] = (),
    ) -> list[str]:
        """Return the names of the tensors to tune, in the order of ``shapes``.

        Parameters
        ----------
        shapes
            Every parameter of the model, by name.
        base
            A parameter's name to that in the base's files, if it has one: either name selects it.
        head
            Parameters that are tuned unless they are frozen by name.
        others
            Tensors of the base that are no parameters here, such as another task's head: naming them has no effect.

        Raises
        ------
        UsageError
            If a criterion fits no tensor, or no tensor fits all of them.
        """
        cells = {name: _cell(name, shape) for name, shape in shapes.items()}
        self._check(cells, base, others)
        self._check_spans(shapes, base)
        wanted = _Wanted(self.named or (), base, shapes)
        chosen, admitted = [], False
        for name, (layer, groups) in cells.items():
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
            criteria = f"{param('only')}, {param('group')}, {param('layers')} and {param('freeze')}"
            raise UsageError(f"no tensor fits all of {criteria}: nothing is left to tune")
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
            If rows and columns of one tensor are named.
        """
        if self.named is None:
            return {}
        wanted = _Wanted(self.named, base, shapes)
        found = {name: _merged(name, wanted.hits(name, shapes[name])) for name in tuned if name not in head}
        return {
            name: spans
            for name, spans in found.items()
            if spans and spans != ((spans[0][0], 0, shapes[name][spans[0][0]]),)
        }

    def _check(self, cells: Mapping[str, _Cell], base: Mapping[str, str], others: Collection[str]) -> None:
        """Raise if a line, a group, a layer or a pattern fits no tensor of the model."""
        self._check_named(cells, {*cells, *base.values(), *others})
        for option, groups in (("group", self.groups or ()), ("freeze", self.freeze_groups)):
            _check_groups(option, groups, cells)
        layers = sorted({layer for layer, _ in cells.values() if layer is not None})
        if self.layers is not None and (missing := sorted(self.layers - set(layers))):
            have = f"its layers are {layers[0]} to {layers[-1]}" if layers else "no layer of it is known"
            raise UsageError(f"{param('layers')} {missing[0]}: the model has none such; {have}")
        for option, patterns in (("only", self.patterns), ("freeze", self.freeze)):
            for pattern in patterns:
                if not any(_matches((pattern,), name, base) for name in cells):
                    raise UsageError(f"{param(option)} {pattern}: fits no tensor of the model")

    def _check_named(self, cells: Mapping[str, _Cell], known: Collection[str]) -> None:
        stacks = _stacks(cells)
        there = {
            (layer, group, stack)
            for name, (layer, groups) in cells.items()
            for group in (None, *groups)
            for stack in (None, *stacks[name])
        }
        there |= {(None, group, None) for _, group, _ in there}
        without = {"layer" for layer, _ in cells.values() if layer is None}
        without |= {"group" for _, groups in cells.values() if not groups}
        for each in self.named or ():
            where = f"{param('only')}: {each.where}"
            if each.without:
                if each.without not in without:
                    raise UsageError(f"{where}: every tensor of the model has a {each.without}")
            elif each.name and each.name not in known:
                hint = "; records are wanted, or a name a line: no table" if "," in each.name else ""
                raise UsageError(f"{where}: the model has no tensor {each.name[:80]}{hint}")
            elif not each.name and (each.layer, each.group, each.stack) not in there:
                named = (("stack", each.stack), ("layer", each.layer), ("group", each.group))
                what = " ".join(f"{kind} {value}" for kind, value in named if value is not None)
                raise UsageError(f"{where}: the model has no {what}")

    def _check_spans(self, shapes: Mapping[str, tuple[int, ...]], base: Mapping[str, str]) -> None:
        stored = {other: name for name, other in base.items()}
        for each in self.named or ():
            shape = shapes.get(stored.get(each.name or "", each.name or ""))
            if each.span is None or shape is None:
                continue
            axis, start, stop = each.span
            if len(shape) != 2 or axis not in (0, 1) or not 0 <= start < stop <= shape[axis]:
                raise UsageError(
                    f"{param('only')}: {each.where}: {each.name} of shape {list(shape)} has no part of axis {axis} from"
                    f" {start} to {stop}; are the records of another model?"
                )


class _Wanted:
    """Lines of stdin, indexed by what they name, so that each tensor is looked up once."""

    def __init__(self, named: Iterable[Named], base: Mapping[str, str], names: Iterable[str]) -> None:
        self._stacks = _stacks(names)
        stored = {other: name for name, other in base.items()}
        self._names: dict[str, list[Span | None]] = {}
        self._cells: set[tuple[int | None, str | None, str | None]] = set()
        self._without: set[str] = set()
        for each in named:
            if each.name:
                self._names.setdefault(stored.get(each.name, each.name), []).append(each.span)
            elif each.without:
                self._without.add(each.without)
            else:
                self._cells.add((each.layer, each.group, each.stack))

    def hits(self, name: str, shape: tuple[int, ...]) -> list[Span | None]:
        """Return the parts of a tensor that lines name, None for all of it; empty where none does."""
        found = list(self._names.get(name, ()))
        stacks = self._stacks.get(name, ())
        cells = {(layer, group) for layer, group, own in self._cells if own is None or own in stacks}
        for part in Grouping().parts(name, shape):
            span = None if part.axis is None else (part.axis, part.start, part.stop)
            if part.layer is not None and (part.layer, None) in cells:
                found.append(None)
            if part.group is not None and cells & {(part.layer, part.group), (None, part.group)}:
                found.append(span)
            if ("layer" in self._without and part.layer is None) or ("group" in self._without and part.group is None):
                found.append(None)
        return found


def _stacks(names: Iterable[str]) -> dict[str, Collection[str]]:
    """Return what the stack of each tensor's layer may be called in records.

    The only stack of a model is one of several in a base that has more; it is known then by its name in either.
    """
    named = Grouping().stacks(names)
    if any(named.values()):
        return {name: [stack] if stack else [] for name, stack in named.items()}
    return {name: _runs((Grouping().path(name) or "").split(".")) for name in named}


def _runs(parts: Sequence[str]) -> set[str]:
    return {".".join(parts[start:stop]) for start in range(len(parts)) for stop in range(start + 1, len(parts) + 1)}


def _merged(name: str, spans: Sequence[Span | None]) -> tuple[Span, ...]:
    """Join parts that touch or overlap; return none if one is the whole tensor."""
    parts = [span for span in spans if span is not None]
    if len(parts) != len(spans):
        return ()
    if len({axis for axis, _, _ in parts}) > 1:
        raise UsageError(f"{param('only')}: stdin names rows and columns of {name}; give one kind, or its name alone")
    merged: list[Span] = []
    for axis, start, stop in sorted(parts):
        if merged and start <= merged[-1][2]:
            merged[-1] = (axis, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((axis, start, stop))
    return tuple(merged)


def _cell(name: str, shape: tuple[int, ...]) -> _Cell:
    """Return a tensor's layer, and every group that its matrix holds."""
    parts = Grouping().parts(name, shape)
    return parts[0].layer, frozenset(part.group for part in parts if part.group)


def groups_of(name: str, shape: tuple[int, ...]) -> frozenset[str]:
    """Return every group that a tensor's matrix holds."""
    return _cell(name, shape)[1]


def _check_groups(option: str, wanted: Collection[str], cells: Mapping[str, _Cell]) -> None:
    """Raise if the model lacks a group, or a matrix holds others too: it is tuned or frozen as a whole."""
    there = {group for _, groups in cells.values() for group in groups}
    if missing := next((group for group in wanted if group not in there), None):
        raise UsageError(
            f"{param(option)} {missing}: no matrix of the model is known as one; name it with {param('only')} REGEX"
        )
    for name, (_, groups) in cells.items():
        if groups & set(wanted) and not groups <= set(wanted):
            held = ",".join(group for group in KNOWN_GROUPS if group in groups)
            raise UsageError(f"{param(option)} {','.join(wanted)}: {name} holds {held} in one; give all of them")


def _matches(patterns: Iterable[str], name: str, base: Mapping[str, str]) -> bool:
    return any(re.search(pattern, each) for pattern in patterns for each in {name, base.get(name, name)})
