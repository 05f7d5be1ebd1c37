"""Distances between two tensors (angle, L1, L2, maximum, changed entries): one pass over both, in float64.

Angles and L1 distances are what arXiv 2004.14129 compares models by. With base a, fine-tuned b and change d = b - a,
the pass sums a.a, a.d, d.d, |a| and |d|. The angle then comes from the chord between the unit vectors,

    |b/|b| - a/|a||^2 = (d.d - (|b| - |a|)^2) / (|a||b|),   |b| - |a| = (2 a.d + d.d) / (|a| + |b|),

and never from an arccos: a cosine in float64 cannot tell angles below 1e-8 from 0. Where the chord's two
terms nearly cancel (the change is almost only a scaling) or the vectors are nearly opposite, the tensor is
read again and the unit vectors subtracted one by one (W. Kahan, How futile are mindless assessments of
roundoff, section 12).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from _toolio.tensors.reader import ArrayTensor, FlatTensor

# Two rows of float64 of this length stay in a 2 MB cache; shorter ones let Python's own time show.
_CHUNK = 131_072
# BLAS starts threads of its own for longer dot products than 10,000, and sums then depend on how many it has.
_BLOCK = 8_192
# One piece of work for a process; also what stays resident of the maps, times processes, times two files.
_WINDOW = 8 * _CHUNK
# A one-pass angle loses at most this factor of float64's precision before the tensor is read again.
_MAX_CANCELLATION = 100.0
# PairSums of squares outside this range have lost, or may have lost, terms to overflow or underflow.
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
        sum|d| / sqrt(n): at most l2, and as large where all entries changed by as much. The scale is chosen here.
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


class _Values(Protocol):
    """Pairs of values in some order that is always the same."""

    @property
    def n(self) -> int: ...

    def all_chunks(self) -> Iterator[tuple[Float64s, Float64s]]: ...


class Pair(NamedTuple):
    """Two tensors of the same number of values."""

    base: FlatTensor
    ft: FlatTensor
    n: int

    def chunks(self, start: int, stop: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield values `start` to `stop` of both, a chunk at a time, and release them at the end."""
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            yield _values(self.base, low, high, 0), _values(self.ft, low, high, 1)
        self.base.release(start, stop)
        self.ft.release(start, stop)

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yield start and stop of the windows that `sum_window` sums."""
        for start in range(0, self.n, _WINDOW):
            yield start, min(start + _WINDOW, self.n)

    def all_chunks(self) -> Iterator[tuple[Float64s, Float64s]]:
        """Yield every chunk of both as new float64 arrays, for the rare passes that need no speed."""
        for start, stop in self.windows():
            for a, b in self.chunks(start, stop):
                yield a.astype(np.float64), b.astype(np.float64)


class _Joined(NamedTuple):
    """Several pairs laid end to end."""

    parts: Sequence[_Values]

    @property
    def n(self) -> int:
        return sum(part.n for part in self.parts)

    def all_chunks(self) -> Iterator[tuple[Float64s, Float64s]]:
        for part in self.parts:
            yield from part.all_chunks()


class PairSums(NamedTuple):
    """Sums over some entries of a pair of tensors, from which every distance follows."""

    aa: float  # sum a^2
    ad: float  # sum a d
    dd: float  # sum d^2
    abs_a: float  # sum |a|
    abs_d: float  # sum |d|
    max_d: float  # max |d|
    changed: float

    @classmethod
    def total(cls, parts: Iterable[PairSums]) -> PairSums:
        """Add sums over parts, at least one."""
        aa, ad, dd, abs_a, abs_d, max_d, changed = zip(*parts, strict=True)
        return cls(sum(aa), sum(ad), sum(dd), sum(abs_a), sum(abs_d), max(max_d), sum(changed))


class _Scratch(threading.local):
    """A thread's work space: rows a and d in float64, a row of flags, and bfloat16 widened to 32 bits, a row a side."""

    def __init__(self) -> None:
        self.rows = np.empty((2, _CHUNK))
        self.flags = np.empty(_CHUNK, np.bool_)
        self.bits = np.empty((2, _CHUNK), np.uint32)


_scratch = _Scratch()


def _values(flat: FlatTensor, start: int, stop: int, side: int) -> NDArray[Any]:
    """Return values that are valid until the next ones of that side are read."""
    read = getattr(flat, "bfloat16_bits", None)
    bits = None if read is None else read(start, stop)
    if bits is None:
        return flat.values(start, stop)
    # As `decode` does, but into memory that is there: new memory costs more than the work on it.
    wide = _scratch.bits[side, : bits.size]
    wide[:] = bits
    np.left_shift(wide, 16, out=wide)
    return wide.view(np.float32)


def _sum_chunk(base: NDArray[Any], ft: NDArray[Any]) -> PairSums:
    n = base.size
    rows, flags = _scratch.rows[:, :n], _scratch.flags[:n]
    a, d = rows
    np.not_equal(base, ft, out=flags)
    a[:] = base
    d[:] = ft
    np.subtract(d, a, out=d)
    (aa,), (ad, dd) = _dots(rows[:1], a), _dots(rows, d)
    np.abs(rows, out=rows)
    abs_a, abs_d = np.einsum("ij->i", rows)
    return PairSums(aa, ad, dd, float(abs_a), float(abs_d), float(d.max()), float(np.count_nonzero(flags)))


def _dots(rows: Float64s, x: Float64s) -> list[float]:
    """Return the dot products of rows with a vector, in blocks: as fast as BLAS, and independent of its threads."""
    whole = x.size - x.size % _BLOCK
    blocks = np.matmul(rows[:, :whole].reshape(len(rows), -1, 1, _BLOCK), x[:whole].reshape(-1, _BLOCK, 1))
    sums: list[float] = blocks.sum(axis=(1, 2, 3)).tolist()
    if whole == x.size:
        return sums
    return [part + float(np.dot(row[whole:], x[whole:])) for part, row in zip(sums, rows, strict=True)]


def sum_window(pair: Pair, start: int, stop: int) -> PairSums:
    """Sum over one of a pair's windows. Thread-safe."""
    with np.errstate(all="ignore"):  # what is not finite is found in the sums, counted and reported
        return PairSums.total(_sum_chunk(a, b) for a, b in pair.chunks(start, stop))


def tensor_distance(base: NDArray[Any], ft: NDArray[Any]) -> TensorDistance:
    """Return the distance of two arrays of the same shape, of any real dtype.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if base.shape != ft.shape:
        raise ValueError(f"shapes {base.shape} and {ft.shape} differ")
    pair = Pair(ArrayTensor(base), ArrayTensor(ft), base.size)
    return Measured(pair, [sum_window(pair, *window) for window in pair.windows()]).distance


class Measured:
    """A pair of tensors, or several laid end to end, with the sums over all of their entries.

    Parameters
    ----------
    values
        The pair; it is read again where the sums are not precise enough.
    parts
        The sums over its windows.
    """

    def __init__(self, values: _Values, parts: Iterable[PairSums]) -> None:
        self.values, self.sums = values, PairSums.total([_NOTHING, *parts])

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """Lay pairs end to end: the distance of the two concatenated vectors, and no mean of the parts' distances."""
        return cls(_Joined([part.values for part in parts]), [part.sums for part in parts])

    def unchanged(self) -> Measured:
        """Return the pair of the base with itself."""
        sums = PairSums(self.sums.aa, 0.0, 0.0, self.sums.abs_a, 0.0, 0.0, 0.0)
        return Measured(_Twice(self.values), [sums])

    @cached_property
    def distance(self) -> TensorDistance:
        """The distance that follows from the sums."""
        return _distance(self.values, self.sums)


_NOTHING = PairSums(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class _Twice(NamedTuple):
    """The first of each pair of values, on both sides."""

    of: _Values

    @property
    def n(self) -> int:
        return self.of.n

    def all_chunks(self) -> Iterator[tuple[Float64s, Float64s]]:
        for a, _ in self.of.all_chunks():
            yield a, a


def _distance(pair: _Values, sums: PairSums) -> TensorDistance:
    """Return the distance that the sums over all entries determine."""
    if not pair.n:
        return TensorDistance(reason="no entries")
    with np.errstate(all="ignore"):
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


def _not_finite(pair: _Values) -> TensorDistance:
    """Count the entries that are not finite, and return them with the reason."""
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


def _angle(pair: _Values, sums: PairSums) -> tuple[float | None, str | None]:
    """Return angle / pi, or None and the reason."""
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


def _scales(pair: _Values) -> tuple[int, int, int]:
    """Return the binary exponents of the largest |a|, |b| and |d|."""
    peaks = [0.0, 0.0, 0.0]
    for a, b in pair.all_chunks():
        for i, values in enumerate((a, b, b - a)):
            peaks[i] = max(peaks[i], float(np.abs(values).max()))
    a_exp, b_exp, d_exp = (math.frexp(peak)[1] for peak in peaks)
    return a_exp, b_exp, d_exp


def _scaled_lengths(pair: _Values) -> tuple[float, float, float]:
    """Return the norms |a|, |b| and |d| where their squares leave float64's range."""
    exponents = _scales(pair)
    squares = [0.0, 0.0, 0.0]
    for a, b in pair.all_chunks():
        for i, values in enumerate((a, b, b - a)):
            squares[i] += float(np.square(np.ldexp(values, -exponents[i])).sum())
    a_len, b_len, d_len = (
        math.ldexp(math.sqrt(square), exponent) for square, exponent in zip(squares, exponents, strict=True)
    )
    return a_len, b_len, d_len


def _angle_of_unit_vectors(pair: _Values) -> tuple[float | None, str | None]:
    """Return 2 atan2(|u - v|, |u + v|) / pi of the unit vectors u and v: accurate at any angle, in three passes."""
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
