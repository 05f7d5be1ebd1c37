"""How far tensors moved: one pass over a pair of checkpoints, in float64, for every distance at once.

Angles and L1 distances are those of arXiv 2004.14129. With base a, fine-tuned b and change d = b - a, the
pass sums a.a, a.d, d.d, |a| and |d|. The angle then comes from the chord between the unit vectors,

    |b/|b| - a/|a||^2 = (d.d - (|b| - |a|)^2) / (|a||b|),   |b| - |a| = (2 a.d + d.d) / (|a| + |b|),

and never from an arccos: a cosine in float64 cannot tell angles below 1e-8 from 0. Where the chord's two
terms nearly cancel (the change is almost only a scaling) or the vectors are nearly opposite, the tensor is
read again and the unit vectors subtracted one by one (W. Kahan, How futile are mindless assessments of
roundoff, section 12).
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError, ToolError
from _toolio.tensors import ArrayTensor, FlatTensor
from berttools.checkpoints import Alignment, Checkpoint, align_names
from berttools.groups import place

__all__ = ["TensorDiff", "TensorDistance", "diff_checkpoints", "tensor_distance"]

# Two rows of float64 of this length stay in a 2 MB cache; shorter ones let Python's own time show.
_CHUNK = 98_304
# One piece of work for a thread; also what stays resident of the maps, times threads, times two files.
_WINDOW = 20 * _CHUNK
# A one-pass angle loses at most this factor of float64's precision before the tensor is read again.
_MAX_CANCELLATION = 100.0
# Sums of squares outside this range have lost, or may have lost, terms to overflow or underflow.
_SAFE_SQUARES = (1e-270, 1e300)

Float64s = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TensorDistance:
    """Distances between a base tensor a and a fine-tuned b of `n` entries each; d = b - a.

    A distance is None where it does not exist; `reason` then says why.

    Attributes
    ----------
    angle
        Angle between a and b as vectors, divided by pi: 0 the same direction, 0.5 orthogonal, 1 opposite.
    l1
        sum|d| / sqrt(n), the scale of arXiv 2004.14129.
    mean_abs
        sum|d| / n.
    rel_l1
        sum|d| / sum|a|.
    l2, rel_l2
        Length of d; the same divided by the length of a.
    max_abs
        Largest |d|.
    changed
        Fraction of entries whose value differs, 0 to 1 (-0.0 and 0.0 do not differ).
    n
        Entries of each tensor.
    nan_base, inf_base, nan_ft, inf_ft
        How many entries are not finite. With any, every distance is None.
    reason
        One line, or None.
    """

    angle: float | None = None
    l1: float | None = None
    mean_abs: float | None = None
    rel_l1: float | None = None
    l2: float | None = None
    rel_l2: float | None = None
    max_abs: float | None = None
    changed: float | None = None
    n: int = 0
    nan_base: int = 0
    inf_base: int = 0
    nan_ft: int = 0
    inf_ft: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """What became of one tensor.

    Attributes
    ----------
    name
        Its name in the base, or in the fine-tuned model if only that has it.
    name_ft
        Its name in the fine-tuned model; None if that lacks it.
    layer, group
        See `berttools.groups.place`.
    shape_base, shape_ft, dtype_base, dtype_ft
        None on the side that lacks the tensor. dtypes are safetensors' names.
    only_in
        ``"base"`` or ``"ft"`` for a tensor of one side only.
    distance
        None if there is nothing to compare; `reason` or `error` says why.
    error
        Set if the tensor could not be read: the run goes on.
    """

    name: str
    name_ft: str | None
    layer: int | None
    group: str | None
    shape_base: tuple[int, ...] | None
    shape_ft: tuple[int, ...] | None
    dtype_base: str | None
    dtype_ft: str | None
    only_in: str | None = None
    distance: TensorDistance | None = None
    reason: str | None = None
    error: InputError | None = None


class _Pair(NamedTuple):
    """Two tensors of the same number of values."""

    base: FlatTensor
    ft: FlatTensor
    n: int

    def chunks(self, start: int, stop: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            yield self.base.values(low, high), self.ft.values(low, high)
        self.base.release(start, stop)
        self.ft.release(start, stop)

    def windows(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.n, _WINDOW):
            yield start, min(start + _WINDOW, self.n)

    def all_chunks(self) -> Iterator[tuple[Float64s, Float64s]]:
        """Every chunk of both as new float64 arrays, for the rare passes that need no speed."""
        for start, stop in self.windows():
            for a, b in self.chunks(start, stop):
                yield a.astype(np.float64), b.astype(np.float64)


class _Sums(NamedTuple):
    """What the pass adds up, over some of the entries."""

    aa: float  # sum a^2
    ad: float  # sum a d
    dd: float  # sum d^2
    abs_a: float  # sum |a|
    abs_d: float  # sum |d|
    max_d: float  # max |d|
    changed: int

    @classmethod
    def total(cls, parts: Iterable[_Sums]) -> _Sums:
        aa, ad, dd, abs_a, abs_d, max_d, changed = zip(*parts, strict=True)
        return cls(sum(aa), sum(ad), sum(dd), sum(abs_a), sum(abs_d), max(max_d), sum(changed))


class _Scratch(threading.local):
    """Each thread's own work space: rows a and d in float64, and a row of flags."""

    def __init__(self) -> None:
        self.rows = np.empty((2, _CHUNK))
        self.flags = np.empty(_CHUNK, np.bool_)


_scratch = _Scratch()


def _sum_chunk(base: NDArray[Any], ft: NDArray[Any]) -> _Sums:
    n = base.size
    rows, flags = _scratch.rows[:, :n], _scratch.flags[:n]
    a, d = rows
    np.not_equal(base, ft, out=flags)
    a[:] = base
    d[:] = ft
    np.subtract(d, a, out=d)
    # einsum, not dot: a BLAS starts threads of its own here, and its sums depend on how many it has.
    aa, ad, dd = np.einsum("i,i->", a, a), np.einsum("i,i->", a, d), np.einsum("i,i->", d, d)
    np.abs(rows, out=rows)
    abs_a, abs_d = np.einsum("ij->i", rows)
    return _Sums(
        float(aa), float(ad), float(dd), float(abs_a), float(abs_d), float(d.max()),
        int(np.count_nonzero(flags)),
    )  # fmt: skip


def _sum_window(pair: _Pair, start: int, stop: int) -> _Sums:
    with np.errstate(all="ignore"):  # what is not finite is found in the sums, counted and reported
        return _Sums.total(_sum_chunk(a, b) for a, b in pair.chunks(start, stop))


def tensor_distance(base: NDArray[Any], ft: NDArray[Any]) -> TensorDistance:
    """Measure two arrays of the same shape, of any real dtype.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if base.shape != ft.shape:
        raise ValueError(f"shapes {base.shape} and {ft.shape} differ")
    pair = _Pair(ArrayTensor(base), ArrayTensor(ft), base.size)
    return _distance(pair, [_sum_window(pair, *window) for window in pair.windows()])


def _distance(pair: _Pair, parts: list[_Sums]) -> TensorDistance:
    """Turn the sums over all of a pair's windows into distances."""
    if not parts:
        return TensorDistance(reason="no entries")
    with np.errstate(all="ignore"):
        sums = _Sums.total(parts)
        if not math.isfinite(sums.abs_a + sums.abs_d):
            return _not_finite(pair)
        angle, why = _angle(pair, sums)
        l2, length = math.sqrt(sums.dd), math.sqrt(sums.aa)
        if not (_safe(sums.dd) or sums.max_d == 0) or not (_safe(sums.aa) or sums.abs_a == 0):
            length, _, l2 = _scaled_lengths(pair)
    rel_l1, rel_l2 = _ratio(sums.abs_d, sums.abs_a), _ratio(l2, length)
    if why is None and (rel_l1 is None or rel_l2 is None):
        why = "base is too close to zero to divide by"
    return TensorDistance(
        angle=angle,
        l1=sums.abs_d / math.sqrt(pair.n),
        mean_abs=sums.abs_d / pair.n,
        rel_l1=rel_l1,
        l2=l2,
        rel_l2=rel_l2,
        max_abs=sums.max_d,
        changed=sums.changed / pair.n,
        n=pair.n,
        reason=why,
    )


def _ratio(part: float, whole: float) -> float | None:
    ratio = part / whole if whole else math.inf
    return ratio if math.isfinite(ratio) else None


def _safe(squares: float) -> bool:
    return _SAFE_SQUARES[0] < squares < _SAFE_SQUARES[1]


def _not_finite(pair: _Pair) -> TensorDistance:
    """Count what is not finite, and say so."""
    nan_base = inf_base = nan_ft = inf_ft = 0
    for a, b in pair.all_chunks():
        nan_base += int(np.count_nonzero(np.isnan(a)))
        inf_base += int(np.count_nonzero(np.isinf(a)))
        nan_ft += int(np.count_nonzero(np.isnan(b)))
        inf_ft += int(np.count_nonzero(np.isinf(b)))
    sides = []
    for side, nan, inf in (("base", nan_base, inf_base), ("ft", nan_ft, inf_ft)):
        counts = [f"{count} {what}" for count, what in ((nan, "NaN"), (inf, "inf")) if count]
        if counts:
            sides.append(f"{' and '.join(counts)} in {side}")
    reason = ", ".join(sides) or "entries too large to add up in float64"
    return TensorDistance(n=pair.n, nan_base=nan_base, inf_base=inf_base, nan_ft=nan_ft, inf_ft=inf_ft, reason=reason)


def _angle(pair: _Pair, sums: _Sums) -> tuple[float | None, str | None]:
    """Give angle / pi, or None and the reason."""
    if sums.abs_a == 0:
        return None, "base is all zeros"
    if sums.max_d == 0:
        return 0.0, None
    aa, ad, dd = sums.aa, sums.ad, sums.dd
    bb = aa + 2 * ad + dd
    if _safe(aa) and _safe(bb) and _safe(dd) and (aa + dd) < _MAX_CANCELLATION * bb:
        a, b = math.sqrt(aa), math.sqrt(bb)
        stretch = (2 * ad + dd) / (a + b)  # |b| - |a|
        turn = dd - stretch * stretch
        chord = math.sqrt(max(turn, 0.0) / (a * b))  # 2 sin(theta / 2)
        # Beyond 1.99 the angle is within 0.2 of pi, where the chord hardly changes with it.
        if dd < _MAX_CANCELLATION * turn and chord < 1.99:
            return 2 * math.asin(chord / 2) / math.pi, None
    return _angle_of_unit_vectors(pair)


def _scales(pair: _Pair) -> tuple[int, int, int]:
    """Give the binary exponents of the largest |a|, |b| and |d|."""
    peaks = [0.0, 0.0, 0.0]
    for a, b in pair.all_chunks():
        for i, values in enumerate((a, b, b - a)):
            peaks[i] = max(peaks[i], float(np.abs(values).max()))
    a_exp, b_exp, d_exp = (math.frexp(peak)[1] for peak in peaks)
    return a_exp, b_exp, d_exp


def _scaled_lengths(pair: _Pair) -> tuple[float, float, float]:
    """Give |a|, |b| and |d| where their squares leave float64's range."""
    exponents = _scales(pair)
    squares = [0.0, 0.0, 0.0]
    for a, b in pair.all_chunks():
        for i, values in enumerate((a, b, b - a)):
            squares[i] += float(np.square(np.ldexp(values, -exponents[i])).sum())
    a_len, b_len, d_len = (
        math.ldexp(math.sqrt(square), exponent) for square, exponent in zip(squares, exponents, strict=True)
    )
    return a_len, b_len, d_len


def _angle_of_unit_vectors(pair: _Pair) -> tuple[float | None, str | None]:
    """Give 2 atan2(|u - v|, |u + v|) / pi of the unit vectors u and v: sound at any angle, three passes."""
    a_exp, b_exp, _ = _scales(pair)
    aa = bb = minus = plus = 0.0
    for a, b in pair.all_chunks():
        aa += float(np.square(np.ldexp(a, -a_exp)).sum())
        bb += float(np.square(np.ldexp(b, -b_exp)).sum())
    if bb == 0:
        return None, "ft is all zeros"
    a_len, b_len = math.sqrt(aa), math.sqrt(bb)
    for a, b in pair.all_chunks():
        u, v = np.ldexp(a, -a_exp) / a_len, np.ldexp(b, -b_exp) / b_len
        minus += float(np.square(u - v).sum())
        plus += float(np.square(u + v).sum())
    return 2 * math.atan2(math.sqrt(minus), math.sqrt(plus)) / math.pi, None


def diff_checkpoints(base: Checkpoint, ft: Checkpoint, *, threads: int | None = None) -> Iterator[TensorDiff]:
    """Compare two models tensor by tensor: the base's in sorted order, then what only the other has.

    Parameters
    ----------
    base, ft
        The models. Names are matched by `berttools.checkpoints.align_names`.
    threads
        Threads to work with; by default 2, or 1 on a machine with one core. No result depends on it.

    Raises
    ------
    ToolError
        Kind ``"no-common-tensors"``: no name of one model is in the other. Raised before the first tensor.
    """
    shapes = [{name: stored.shape for name, stored in model.tensors.items()} for model in (base, ft)]
    names = align_names(*shapes)
    if not names.pairs:
        raise ToolError(_nothing_in_common(base, ft), kind="no-common-tensors")
    return _run(base, ft, names, threads or min(2, os.cpu_count() or 1))


def _nothing_in_common(base: Checkpoint, ft: Checkpoint) -> str:
    first = [next(iter(model.tensors), "nothing") for model in (base, ft)]
    return (
        f"no tensor of {base.path} is in {ft.path}: the first names are {first[0]} and {first[1]};"
        " give two checkpoints of one architecture"
    )


def _run(base: Checkpoint, ft: Checkpoint, names: Alignment, threads: int) -> Iterator[TensorDiff]:
    # Past two threads Python's lock costs more than another thread brings.
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Callable[[], TensorDiff]] = deque()
        try:
            for name in base.tensors:
                waiting.append(_start(base, ft, name, names.pairs.get(name), pool))
                # Enough tensors ahead keep every thread busy; more would only wait to be printed.
                if len(waiting) > 4 * threads:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            pool.shutdown(cancel_futures=True)
    for name in names.only_ft:
        yield _one_sided(ft, name, "ft")


def _one_sided(model: Checkpoint, name: str, side: str) -> TensorDiff:
    dtype, shape, _ = model.tensors[name]
    in_base = side == "base"
    return TensorDiff(
        name=name,
        name_ft=None if in_base else name,
        layer=place(name, shape).layer,
        group=place(name, shape).group,
        shape_base=shape if in_base else None,
        shape_ft=None if in_base else shape,
        dtype_base=dtype if in_base else None,
        dtype_ft=None if in_base else dtype,
        only_in=side,
        reason=f"only in {side}",
    )


def _start(
    base: Checkpoint, ft: Checkpoint, name: str, name_ft: str | None, pool: ThreadPoolExecutor
) -> Callable[[], TensorDiff]:
    """Hand a tensor's windows to the pool; what is returned waits for them."""
    if name_ft is None:
        return lambda: _one_sided(base, name, "base")
    (dtype, shape, _), (dtype_ft, shape_ft, _) = base.tensors[name], ft.tensors[name_ft]
    layer, group = place(name, shape)

    def diff(**found: Any) -> TensorDiff:
        return TensorDiff(name, name_ft, layer, group, shape, shape_ft, dtype, dtype_ft, **found)

    if shape != shape_ft:
        return lambda: diff(reason="shapes differ")
    try:
        pair = _Pair(base.flat(name), ft.flat(name_ft), base.tensors[name].size)
    except InputError as unreadable:
        error = unreadable  # a name bound by `as` ends with its block
        return lambda: diff(error=error)
    parts: list[Future[_Sums]] = [pool.submit(_sum_window, pair, *window) for window in pair.windows()]

    def finish() -> TensorDiff:
        distance = _distance(pair, [part.result() for part in parts])
        return diff(distance=distance, reason=distance.reason)

    return finish
