"""Compare checkpoints tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from _toolio.compute.cores import usable_cores
from _toolio.errors import InputError
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import EMPTY, Checkpoint, Stored
from berttools.checkpoints.groups import Part
from berttools.checkpoints.names import Alignment
from berttools.checkpoints.names.vocabulary import common_rows
from berttools.checkpoints.tokens import Vocabularies
from berttools.checkpoints.views import ColumnsTensor, RoundedTensor, RowsTensor, coarser, prepares
from berttools.layerdiff.config import Selection
from berttools.layerdiff.distances import Measured, Pair, PairSums, TensorDistance, sum_window
from berttools.layerdiff.forked_jobs import Crew
from berttools.layerdiff.matching import Match, match_tensors


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """The difference between two models in one tensor, or in one part of a fused matrix.

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
        The tensor of the same model that it is a copy of: an output matrix tied to the embeddings.
    stack
        Which of several stacks of layers the layer is of, such as ``"encoder"``; None for the base's only one.
    tied_base, tied_ft
        The embeddings that it was compared with in a model that ties it to them, and has no such tensor itself.
    rows_common, rows_new, rows_gone
        Of a tensor with a row for each token, where the vocabularies differ: rows that were compared, that only the
        fine-tuned model has, that only the base has. None elsewhere.
    vocabulary
        Of such a tensor: ``"same"`` if the tokenizers' files say that these rows are of the same tokens,
        ``"unchecked"`` if they do not say it, ``"other"`` if they say that rows are of other tokens: then nothing is
        compared, also where the shapes are the same.
    distance
        None if there is nothing to compare; `reason` or `error` says why.
    rounding_angle
        Where the dtypes differ: the angle / pi that storing the finer side in the coarser dtype makes by itself.
    error
        Set if the tensor could not be read: the comparison goes on.
    whole
        Either side holds integers that are no quantized weights, such as position ids: sums leave them out.
    measured, rounded
        The sums behind both distances, for `berttools.layerdiff.sums.summarise` and for whatever reads the pair again.
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
    stack: str | None = None
    tied_base: str | None = None
    tied_ft: str | None = None
    rows_common: int | None = None
    rows_new: int | None = None
    rows_gone: int | None = None
    vocabulary: str | None = None
    measured: Measured | None = field(default=None, compare=False, repr=False)
    rounded: Measured | None = field(default=None, compare=False, repr=False)

    @property
    def shape_compared(self) -> tuple[int, ...] | None:
        """The shape of what was compared, in the base."""
        if self.rows_common is None or self.shape_base is None:
            return self.shape_base
        return tuple(
            self.rows_common if a != b else a for a, b in zip(self.shape_base, self.shape_ft or (), strict=True)
        )

    @property
    def key(self) -> tuple[str, tuple[int, int, int] | None]:
        """Name and part, which identify it in one base."""
        return self.name, self.part


def diff_checkpoints(
    base: Checkpoint,
    ft: Checkpoint,
    selection: Selection | None = None,
    *,
    processes: int | None = None,
    device: str = "cpu",
    names: Alignment | None = None,
) -> Iterator[TensorDiff]:
    """Yield the difference of two models tensor by tensor: the base's in sorted order, then what only the other has.

    Parameters
    ----------
    base, ft
        The models. Names are matched by `berttools.checkpoints.names.align_names`.
    selection
        What to compare; by default all.
    processes
        Processes to sum with; by default one a core, up to 4. No result depends on it.
    device
        ``cpu``, which needs no torch; ``cuda``, ``cuda:N`` or ``auto``.
    names
        As of `berttools.layerdiff.matching.match_tensors`.

    Raises
    ------
    ToolError
        Kind ``"empty-tensor"``: no weight of a model has an entry; ``"no-common-tensors"``: no name of one model is in
        the other; ``"architectures"``: no matrix of one
        has the shape that it has in the other, or both say what they are, and differ; ``"swapped"``;
        ``"nothing-chosen"``. Raised before the first tensor.
    """
    matches = match_tensors(base, ft, selection or Selection(), names)
    return _measure(base, ft, matches, _worker(device, processes or usable_cores()))


class _Worker(Protocol):
    """Sums numbered jobs: processes or a GPU."""

    def result(self, number: int) -> Sequence[float]: ...

    def close(self) -> None: ...


_Job = tuple[Pair, int, int]
_MakeWorker = Callable[[Sequence[_Job], Sequence[int]], _Worker]
"""Takes jobs, and the numbers of those that a run of one process begins with."""


def _worker(device: str, processes: int) -> _MakeWorker:
    if device != "cpu":
        from _toolio.compute.device import pick_device

        picked = pick_device(device)
        if picked.type == "cuda":
            from berttools.layerdiff.gpu import Stream

            return lambda jobs, _: Stream(jobs, picked)
    return lambda jobs, starts: Crew(
        lambda number: sum_window(*jobs[number]), len(jobs), len(PairSums._fields), processes=processes, starts=starts
    )


def _measure(base: Checkpoint, ft: Checkpoint, matches: Sequence[Match], worker: _MakeWorker) -> Iterator[TensorDiff]:
    vocabularies = Vocabularies(base.path, ft.path)
    prepared = [_prepare(base, ft, match, vocabularies) for match in matches]
    jobs: list[_Job] = []
    starts: list[int] = []
    last = None
    for match, (pairs, _) in zip(matches, prepared, strict=True):
        # What is computed of a whole tensor, each process would compute again: one does all of its windows and parts.
        whole = match.name if any(prepares(flat) for pair in pairs for flat in (pair.base, pair.ft)) else None
        begin = len(jobs)
        jobs += [(pair, *window) for pair in pairs for window in pair.windows()]
        if whole is None:
            starts += range(begin, len(jobs))
        elif whole != last and begin < len(jobs):
            starts.append(begin)
        last = whole if begin < len(jobs) else last
    crew = worker(jobs, starts)
    numbers = iter(range(len(jobs)))
    try:
        for pairs, found in prepared:
            if not pairs:
                yield found()
                continue
            # Taken before the first result is read: one that cannot be read leaves the next tensor's where they are.
            mine = [[next(numbers) for _ in pair.windows()] for pair in pairs]
            try:
                parts = [[PairSums(*crew.result(number)) for number in some] for some in mine]
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


def _prepare(
    base: Checkpoint, ft: Checkpoint, match: Match, vocabularies: Vocabularies
) -> tuple[list[Pair], Callable[..., TensorDiff]]:
    """Return the pairs to measure, and what makes a diff of their distances; no pairs where nothing can be compared."""
    name_base = match.tied_base or match.name
    stored = None if match.only_in == "ft" else base.tensors[name_base]
    stored_ft = None if match.name_ft is None else ft.tensors[match.name_ft]
    found = partial(_describe, match, stored, stored_ft)
    # What cannot be read is an error before it is anything else: its shape may be that of packed codes.
    try:
        for model, name, header in ((base, name_base, stored), (ft, match.name_ft, stored_ft)):
            if header is not None and name is not None:
                model.flat(name)
        _refuse_codes(match.name, stored, stored_ft)
    except InputError as error:
        return [], partial(found, error=error)
    if stored is None or stored_ft is None:
        copy = f", as a copy of {match.tied_to}" if match.tied_to else ""
        return [], partial(found, reason=f"only in {match.only_in}{copy}")
    if bool(stored.size) != bool(stored_ft.size):
        side, empty = ("ft", ft.path) if stored.size else ("base", base.path)
        return [], partial(found, error=InputError(f"{empty}: {match.name} of {side} {EMPTY}", kind="empty-tensor"))
    rows = None if match.part.axis is not None else common_rows(match.name, stored.shape, stored_ft.shape)
    if rows is not None:
        resized = stored.shape != stored_ft.shape
        verdict = vocabularies.compare(rows.common, resized=resized)
        if resized:
            found = partial(found, rows_common=rows.common, rows_new=rows.second, rows_gone=rows.first)
        if resized or verdict.reason:
            found = partial(found, vocabulary=verdict.vocabulary)
        if verdict.reason:
            return [], partial(found, reason=verdict.reason)
    elif stored.shape != stored_ft.shape:
        return [], partial(found, reason="shapes differ")
    try:
        flat, flat_ft = _cut(base, name_base, match.part), _cut(ft, match.name_ft or "", match.part)
        whole = _is_whole(flat, stored) or _is_whole(flat_ft, stored_ft)
    except InputError as error:
        return [], partial(found, error=error)
    return _pairs(flat, flat_ft, stored, stored_ft, match), partial(found, whole=whole)


def _refuse_codes(name: str, stored: Stored | None, stored_ft: Stored | None) -> None:
    """Raise an InputError for a weight that is floats on one side and unscaled integers of few bits on the other."""
    sides = [each for each in (stored, stored_ft) if each is not None and name.endswith("weight")]
    codes = [each for each in sides if each.dtype.startswith(("I", "U")) and not each.scaled]
    if codes and any(each.scaled or coarser(each.dtype, "F64") or each.dtype == "F64" for each in sides):
        raise InputError(
            f"{codes[0].path}: {name} holds integers ({codes[0].dtype}) without a scale, where the other model has"
            " numbers; dequantize it with the library that made it, and give that",
            kind="quantization",
        )


def _is_whole(flat: FlatTensor, stored: Stored) -> bool:
    """Test for integers that are no weights: quantized weights are stored as integers, and read as floats."""
    if stored.scaled or not stored.dtype.startswith(("I", "U", "BOOL")):
        return False
    return not stored.size or flat.values(0, 1).dtype.kind in "iub"


def _pairs(flat: FlatTensor, flat_ft: FlatTensor, stored: Stored, stored_ft: Stored, match: Match) -> list[Pair]:
    """Return the pair to measure and, where dtypes differ, the finer side with itself rounded to the coarser dtype."""
    # Rows that both have come first in either.
    n = min(math.prod(_shape(each, match.part)) for each in (stored, stored_ft))
    pairs = [Pair(flat, flat_ft, n)]
    # Codes with scales hold other numbers than their dtype alone would: rounding to it says nothing of them.
    scaled = stored.scaled or stored_ft.scaled
    if (coarse := coarser(stored.dtype, stored_ft.dtype)) and not scaled:
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


def _describe(match: Match, stored: Stored | None, stored_ft: Stored | None, **found: Any) -> TensorDiff:
    part = match.part
    return TensorDiff(
        name=match.name,
        name_ft=match.name_ft,
        layer=part.layer,
        group=part.group,
        shape_base=stored and _shape(stored, part),
        # A tensor of another shape is shown whole: it has no parts that could be compared.
        shape_ft=stored_ft
        and (_shape(stored_ft, part) if not stored or stored.shape == stored_ft.shape else stored_ft.shape),
        dtype_base=stored and stored.dtype,
        dtype_ft=stored_ft and stored_ft.dtype,
        part=None if part.axis is None else (part.axis, part.start, part.stop),
        only_in=match.only_in,
        tied_to=match.tied_to,
        stack=match.stack,
        tied_base=match.tied_base,
        tied_ft=match.tied_ft,
        **found,
    )
