"""Lazy views of tensors, computed while they are read: parts, rounded, merged; by rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from _toolio.tensors.dtypes import decode
from _toolio.tensors.reader import FlatTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MANTISSA_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7, "F8_E4M3": 3, "F8_E5M2": 2}


def prepares(flat: FlatTensor) -> bool:
    """Test whether the first values of a tensor cost much more than the next: something is computed of the whole."""
    return getattr(flat, "prepares", False)


def coarser(dtype: str, other: str) -> str | None:
    """Return the one of two safetensors dtypes with the shorter mantissa; None if they are equal or one is no float."""
    digits, others = _MANTISSA_BITS.get(dtype), _MANTISSA_BITS.get(other)
    if digits is None or others is None or digits == others:
        return None
    return dtype if digits < others else other


class RowsTensor:
    """A contiguous range of another tensor's values, from `begin` on: some of its rows."""

    def __init__(self, whole: FlatTensor, begin: int) -> None:
        self._whole, self._begin = whole, begin
        self.prepares = prepares(whole)

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        return self._whole.values(self._begin + start, self._begin + stop)

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these values."""
        self._whole.release(self._begin + start, self._begin + stop)


class ByRows:
    """A matrix with `columns` values in a row, computed in whole rows."""

    def __init__(self, source: FlatTensor, source_columns: int, columns: int) -> None:
        self._source, self._source_columns, self._columns = source, source_columns, columns
        self.prepares = prepares(source)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`, shape (last - first, columns)."""
        raise NotImplementedError

    def source_rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last` of the source, shape (last - first, source_columns)."""
        width = self._source_columns
        return self._source.values(first * width, last * width).reshape(-1, width)

    def _around(self, start: int, stop: int) -> tuple[int, int]:
        return start // self._columns, -(-stop // self._columns)

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        first, last = self._around(start, stop)
        skipped = first * self._columns
        return self.rows(first, last).reshape(-1)[start - skipped : stop - skipped]

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these values."""
        first, last = self._around(start, stop)
        self._source.release(first * self._source_columns, last * self._source_columns)


class ColumnsTensor(ByRows):
    """Columns `begin` to `end` of a matrix with `width` of them."""

    def __init__(self, whole: FlatTensor, width: int, begin: int, end: int) -> None:
        super().__init__(whole, width, end - begin)
        self._begin, self._end = begin, end

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        return self.source_rows(first, last)[:, self._begin : self._end]


class MergedTensor(ByRows):
    """A matrix plus a low-rank product: float64, so that nothing of a small change is rounded away.

    Parameters
    ----------
    factors
        Returns the factors, (rows, r) and (r, columns); called whenever rows are read.
    decomposes
        The factors come from a decomposition of the whole matrix.
    """

    def __init__(
        self,
        base: FlatTensor,
        columns: int,
        factors: Callable[[], tuple[NDArray[Any], NDArray[Any]]],
        *,
        decomposes: bool = False,
    ) -> None:
        super().__init__(base, columns, columns)
        self._factors = factors
        self.prepares |= decomposes

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        left, right = self._factors()
        merged: NDArray[Any] = left[first:last] @ right
        merged += self.source_rows(first, last)
        return merged


class RescaledTensor(ByRows):
    """A matrix whose rows, or columns, are multiplied by numbers.

    Parameters
    ----------
    scales
        Returns them, shape (rows, 1) or (1, columns), from the whole matrix; called whenever rows are read.
    """

    def __init__(self, matrix: FlatTensor, columns: int, scales: Callable[[], NDArray[Any]]) -> None:
        super().__init__(matrix, columns, columns)
        self._scales = scales
        self.prepares = True

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        scales = self._scales()
        scaled: NDArray[Any] = self.source_rows(first, last) * (scales if len(scales) == 1 else scales[first:last])
        return scaled


class ReplacedRowsTensor(ByRows):
    """A matrix of which some rows are those of another, of as many columns.

    Parameters
    ----------
    replaced
        Which rows, in the order of the other's.
    """

    def __init__(self, matrix: FlatTensor, columns: int, replaced: Sequence[int], other: FlatTensor) -> None:
        super().__init__(matrix, columns, columns)
        self._other, self._rows_of_other = other, {row: number for number, row in enumerate(replaced)}

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        rows = self.source_rows(first, last).astype(np.float64)
        for row in self._rows_of_other.keys() & range(first, last):
            start = self._rows_of_other[row] * self._columns
            rows[row - first] = self._other.values(start, start + self._columns)
        return rows


class RoundedTensor:
    """Another tensor's values, rounded to `dtype` as storing them in it rounds."""

    def __init__(self, exact: FlatTensor, dtype: str) -> None:
        self._exact, self._dtype = exact, dtype
        self.prepares = prepares(exact)

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        return _round(self._exact.values(start, stop), self._dtype)

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these values."""
        self._exact.release(start, stop)


def _round(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Round to the nearest value of a dtype of safetensors, ties to even."""
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        half = bits >> 16
        half &= 1
        half += 0x7FFF
        bits += half
        bits &= 0xFFFF0000
        return bits.view(np.float32)
    if dtype.startswith("F8_"):
        return _round_to_table(values, decode(np.arange(128, dtype=np.uint8), dtype))
    with np.errstate(over="ignore"):
        return values.astype({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])


def _round_to_table(values: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """Round to the nearest of a table's values, which begin at 0, or their negatives; saturate at the largest."""
    table = table[np.isfinite(table)]
    sizes = np.abs(values)
    above = np.searchsorted(table, sizes).clip(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    up = (sizes - low > high - sizes) | ((sizes - low == high - sizes) & (above % 2 == 0))
    rounded: NDArray[Any] = np.copysign(np.where(up, high, low), values)
    return rounded
