"""Compare checkpoints tensor by tensor, and add up what was found by layer, group or model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

from _toolio.compute.cores import usable_cores
from _toolio.errors import InputError, ToolError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import Checkpoint, Stored
from berttools.checkpoints.groups import GROUPS, Grouping, Part
from berttools.checkpoints.names import align_names
from berttools.checkpoints.views import ColumnsTensor, RoundedTensor, RowsTensor, coarser
from berttools.layerdiff.distances import Measured, Pair, Sums, TensorDistance, sum_window
from berttools.layerdiff.forked_jobs import Crew
from berttools.layerdiff.tied import tied_tensors


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """What became of one tensor, or of one part of a tensor that holds several matrices.

    Attributes
    ----------
    name
        Its name in the base, or in the fine-tuned model if only that has it.
    name_ft
        Its name in the fine-tuned model; None if that lacks it.
    layer, group
        See `berttools.checkpoints.groups.Grouping`.
    shape_base, shape_ft, dtype_base, dtype_ft
        None on the side that lacks the tensor; shapes are those of the part. dtypes are safetensors' names.
    part
        Axis, start and stop of a part; None for a whole tensor.
    only_in
        ``"base"`` or ``"ft"`` for a tensor of one side only.
    tied_to
        The tensor of the same model whose values it has once more: an output matrix tied to the embeddings.
    distance
        None if there is nothing to compare; `reason` or `error` says why.
    rounding_angle
        Where the dtypes differ: the angle / pi that storing the finer side in the coarser dtype makes by itself.
    error
        Set if the tensor could not be read: the run goes on.
    whole
        Either side holds whole numbers that stand for themselves, such as position ids: `summarise` leaves them out.
    measured, rounded
        The sums behind both, for `summarise` and for those who read the pair again.
    """

    name: str
    name_ft: str | None
    layer: int | None
    group: str | None
    shape_base: tuple[int, ...] | None
    shape_ft: tuple[int, ...] | None
    dtype_base: str | None
    dtype_ft: str | None
    part: tuple[int, int, int] | None = None
    only_in: str | None = None
    tied_to: str | None = None
    distance: TensorDistance | None = None
    rounding_angle: float | None = None
    reason: str | None = None
    error: InputError | None = None
    whole: bool = False
    measured: Measured | None = field(default=None, compare=False, repr=False)
    rounded: Measured | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, tuple[int, int, int] | None]:
        """What no other tensor of the same base has."""
        return self.name, self.part


@dataclass(frozen=True)
class Choice:
    """Which tensors to compare, and how they are named and grouped.

    Attributes
    ----------
    grouping
        The table of groups.
    only
        Names that it is found in; None for all.
    groups
        Groups; empty for all tensors.
    strip
        Prefixes to take off names.
    """

    grouping: Grouping = field(default_factory=Grouping)
    only: re.Pattern[str] | None = None
    groups: frozenset[str] = frozenset()
    strip: Sequence[str] = ()

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        """Give what is wanted of a tensor."""
        if self.only is not None and not self.only.search(name):
            return []
        return [part for part in self.grouping.parts(name, shape) if not self.groups or part.group in self.groups]


class _Unit(NamedTuple):
    """Something to compare."""

    name: str
    name_ft: str | None
    part: Part
    only_in: str | None = None
    tied_to: str | None = None


def diff_checkpoints(
    base: Checkpoint,
    ft: Checkpoint,
    choice: Choice | None = None,
    *,
    processes: int | None = None,
    device: str = "cpu",
) -> Iterator[TensorDiff]:
    """Compare two models tensor by tensor: the base's in sorted order, then what only the other has.

    Parameters
    ----------
    base, ft
        The models. Names are matched by `berttools.checkpoints.names.align_names`.
    choice
        What to compare; by default all.
    processes
        Processes to work with; by default one a core, up to 4. No result depends on it.
    device
        ``cpu``, which needs no torch; ``cuda``, ``cuda:N`` or ``auto``.

    Raises
    ------
    ToolError
        Kind ``"no-common-tensors"``: no name of one model is in the other; ``"architectures"``: no matrix of one
        has the shape that it has in the other, or both say what they are, and differ; ``"swapped"``;
        ``"nothing-chosen"``. Raised before the first tensor.
    """
    units = _units(base, ft, choice or Choice())
    return _run(base, ft, units, _worker(device, processes or usable_cores()))


class _Worker(Protocol):
    """What works on jobs: processes or a GPU."""

    def result(self, number: int) -> Sequence[float]: ...

    def close(self) -> None: ...


_Job = tuple[Pair, int, int]


def _worker(device: str, processes: int) -> Callable[[Sequence[_Job]], _Worker]:
    if device != "cpu":
        from _toolio.compute.device import pick_device

        picked = pick_device(device)
        if picked.type == "cuda":
            from berttools.layerdiff.gpu import Stream

            return lambda jobs: Stream(jobs, picked)
    return lambda jobs: Crew(
        lambda number: sum_window(*jobs[number]), len(jobs), len(Sums._fields), processes=processes
    )


def _units(base: Checkpoint, ft: Checkpoint, choice: Choice) -> list[_Unit]:
    shapes = [{name: stored.shape for name, stored in model.tensors.items()} for model in (base, ft)]
    names = align_names(*shapes, strip=choice.strip)
    if not names.pairs:
        raise ToolError(_nothing_in_common(base, ft), kind="no-common-tensors")
    _check_order(base, ft)
    _check_architectures(base, ft, names.pairs)
    tied, tied_ft = tied_tensors(base), tied_tensors(ft)
    units = [
        _Unit(name, names.pairs.get(name), part, None if name in names.pairs else "base", tied.get(name))
        for name, stored in base.tensors.items()
        for part in choice.parts(name, stored.shape)
    ]
    units += [
        _Unit(name, name, part, "ft", tied_ft.get(name))
        for name in names.only_ft
        for part in choice.parts(name, shapes[1][name])
    ]
    if not units:
        raise ToolError(
            f"{base.path}: --only and --group leave none of its {len(base.tensors)} tensors; run without them to see"
            " names and groups",
            kind="nothing-chosen",
        )
    return units


def _nothing_in_common(base: Checkpoint, ft: Checkpoint) -> str:
    first = [next(iter(model.tensors), "nothing") for model in (base, ft)]
    return (
        f"no tensor of {base.path} is in {ft.path}: the first names are {first[0]} and {first[1]};"
        " give two checkpoints of one architecture"
    )


# What a fine-tuned model's class is called; a pre-trained one's ends in Model, ForMaskedLM, ForCausalLM and the like.
_TASK_CLASS = re.compile(r"For(?:Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice")
_ANYWAY = "to compare them as they are, name the weight files instead of the folders"


def _check_order(base: Checkpoint, ft: Checkpoint) -> None:
    """Refuse a base that has a task head where the fine-tuned model, which should, has none."""
    classes = [" ".join(map(str, model.config.get("architectures") or ())) for model in (base, ft)]
    if all(classes) and _TASK_CLASS.search(classes[0]) and not _TASK_CLASS.search(classes[1]):
        raise ToolError(
            f"{base.path} is a {classes[0]} and {ft.path} a {classes[1]}: they look swapped, the base comes first;"
            f" {_ANYWAY}",
            kind="swapped",
        )


def _check_architectures(base: Checkpoint, ft: Checkpoint, pairs: Mapping[str, str]) -> None:
    """Refuse models whose tensors meet by name only."""
    kinds = [model.config.get("model_type") for model in (base, ft)]
    if all(kinds) and kinds[0] != kinds[1]:
        raise ToolError(
            f"{base.path} is a {kinds[0]} and {ft.path} a {kinds[1]}: two different architectures; {_ANYWAY}",
            kind="architectures",
        )
    matrices = [(name, name_ft) for name, name_ft in pairs.items() if len(base.tensors[name].shape) == 2]
    if matrices and all(base.tensors[name].shape != ft.tensors[name_ft].shape for name, name_ft in matrices):
        name, name_ft = matrices[0]
        shape, shape_ft = base.tensors[name].shape, ft.tensors[name_ft].shape
        raise ToolError(
            f"no matrix of {base.path} has the shape that it has in {ft.path}: {name} is {list(shape)} and"
            f" {list(shape_ft)}; give two checkpoints of one architecture and size",
            kind="architectures",
        )


def _run(
    base: Checkpoint, ft: Checkpoint, units: Sequence[_Unit], worker: Callable[[Sequence[_Job]], _Worker]
) -> Iterator[TensorDiff]:
    prepared = [_prepare(base, ft, unit) for unit in units]
    jobs = [(pair, *window) for pairs, _ in prepared for pair in pairs for window in pair.windows()]
    crew = worker(jobs)
    numbers = iter(range(len(jobs)))
    try:
        for pairs, found in prepared:
            if not pairs:
                yield found()
                continue
            # Taken before the first is asked for: one that cannot be read leaves the next tensor's where they are.
            mine = [[next(numbers) for _ in pair.windows()] for pair in pairs]
            try:
                parts = [[Sums(*crew.result(number)) for number in some] for some in mine]
            except InputError as unreadable:
                yield found(error=unreadable)
                continue
            measured, *rest = [Measured(pair, sums) for pair, sums in zip(pairs, parts, strict=True)]
            rounded = rest[0] if rest else None
            yield found(
                distance=measured.distance,
                rounding_angle=rounded and rounded.distance.angle,
                reason=measured.distance.reason,
                measured=measured,
                rounded=rounded,
            )
    finally:
        crew.close()


def _prepare(base: Checkpoint, ft: Checkpoint, unit: _Unit) -> tuple[list[Pair], Callable[..., TensorDiff]]:
    """Give what is to be measured, and what makes a diff of it; nothing is to be measured where nothing can be."""
    stored = None if unit.only_in == "ft" else base.tensors[unit.name]
    stored_ft = None if unit.name_ft is None else ft.tensors[unit.name_ft]
    found = partial(_describe, unit, stored, stored_ft)
    if stored is None or stored_ft is None:
        copy = f", as a copy of {unit.tied_to}" if unit.tied_to else ""
        return [], partial(found, reason=f"only in {unit.only_in}{copy}")
    if stored.shape != stored_ft.shape:
        return [], partial(found, reason="shapes differ")
    try:
        flat, flat_ft = _cut(base, unit.name, unit.part), _cut(ft, unit.name_ft or "", unit.part)
        whole = _is_whole(flat, stored) or _is_whole(flat_ft, stored_ft)
    except InputError as error:
        return [], partial(found, error=error)
    return _pairs(flat, flat_ft, stored, stored_ft, unit), partial(found, whole=whole)


def _is_whole(flat: FlatTensor, stored: Stored) -> bool:
    """Tell whole numbers that are no weights: quantised weights are stored as such, and read as floats."""
    return stored.dtype.startswith(("I", "U", "BOOL")) and (not stored.size or flat.values(0, 1).dtype.kind in "iub")


def _pairs(flat: FlatTensor, flat_ft: FlatTensor, stored: Stored, stored_ft: Stored, unit: _Unit) -> list[Pair]:
    """Give the pair to measure and, where dtypes differ, the finer side beside what the coarser dtype leaves of it."""
    n = math.prod(_shape(stored, unit.part))
    pairs = [Pair(flat, flat_ft, n)]
    if coarse := coarser(stored.dtype, stored_ft.dtype):
        fine = flat if coarse == stored_ft.dtype else flat_ft
        pairs.append(Pair(fine, RoundedTensor(fine, coarse), n))
    return pairs


def _cut(model: Checkpoint, name: str, part: Part) -> FlatTensor:
    whole = model.flat(name)
    if part.axis is None:
        return whole
    width = model.tensors[name].shape[1]
    if part.axis == 0:
        return RowsTensor(whole, part.start * width)
    return ColumnsTensor(whole, width, part.start, part.stop)


def _shape(stored: Stored, part: Part) -> tuple[int, ...]:
    if part.axis is None:
        return stored.shape
    rows, columns = stored.shape
    return (part.stop - part.start, columns) if part.axis == 0 else (rows, part.stop - part.start)


def _describe(unit: _Unit, stored: Stored | None, stored_ft: Stored | None, **found: Any) -> TensorDiff:
    part = unit.part
    return TensorDiff(
        name=unit.name,
        name_ft=unit.name_ft,
        layer=part.layer,
        group=part.group,
        shape_base=stored and _shape(stored, part),
        # A tensor of another shape is shown whole: it has no parts that could be compared.
        shape_ft=stored_ft
        and (_shape(stored_ft, part) if not stored or stored.shape == stored_ft.shape else stored_ft.shape),
        dtype_base=stored and stored.dtype,
        dtype_ft=stored_ft and stored_ft.dtype,
        part=None if part.axis is None else (part.axis, part.start, part.stop),
        only_in=unit.only_in,
        tied_to=unit.tied_to,
        **found,
    )


class Summary(NamedTuple):
    """Tensors of one layer, one group or one cell of both, laid end to end: exact, and no mean of their distances."""

    layer: int | None
    group: str | None
    tensors: int
    left_out: int
    """Tensors of that place that could not be compared, or are whole numbers and no weights."""
    distance: TensorDistance
    rounding_angle: float | None


KEYS: Mapping[str, Callable[[TensorDiff], tuple[int | None, str | None]]] = {
    "layer": lambda diff: (diff.layer, None),
    "group": lambda diff: (None, diff.group),
    "model": lambda _: (None, None),
    "cell": lambda diff: (diff.layer, diff.group),
}
"""What tensors have in common that are added up."""


def summarise(diffs: Iterable[TensorDiff], by: str, groups: Sequence[str] = GROUPS) -> list[Summary]:
    """Add up by layer, group, cell (both) or model, in that order, what belongs nowhere last.

    A tensor that is another one's copy (`TensorDiff.tied_to`) counts once. Whole numbers that are no weights
    (`TensorDiff.whole`) are left out: position ids up to 511 would outweigh all else.

    Parameters
    ----------
    diffs
        As `diff_checkpoints` gives them.
    by
        One of `KEYS`.
    groups
        The order of groups.
    """
    places: dict[tuple[int | None, str | None], list[TensorDiff]] = {}
    for diff in diffs:
        if diff.tied_to is None:
            places.setdefault(KEYS[by](diff), []).append(diff)

    def order(place: tuple[int | None, str | None]) -> tuple[float, float]:
        layer, group = place
        return math.inf if layer is None else layer, groups.index(group) if group in groups else math.inf

    return [_summary(place, places[place]) for place in sorted(places, key=order)]


def _summary(place: tuple[int | None, str | None], diffs: Sequence[TensorDiff]) -> Summary:
    known = [(diff.measured, diff.rounded) for diff in diffs if diff.measured is not None and not diff.whole]
    rounding = None
    if any(rounded for _, rounded in known):
        rounding = Measured.joined([rounded or measured.unchanged() for measured, rounded in known]).distance.angle
    distance = Measured.joined([measured for measured, _ in known]).distance
    if not known:
        distance = replace(distance, reason="nothing to compare")
    return Summary(*place, len(known), len(diffs) - len(known), distance, rounding)
