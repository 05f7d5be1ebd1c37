"""Lazy views of quantized weights: codes times scales by rows, by flat blocks, and of matrices stored transposed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.quantized.codes import unpack
from berttools.checkpoints.views import ByRows

Float64s = NDArray[np.float64]

# Half of what a process sums at a time (`berttools.layerdiff.distances`): some arrays of this size make a band.
_BAND_VALUES = 1 << 19


class Factors(Protocol):
    """Scales or zero points of a matrix."""

    def rows(self, first: int, last: int, columns: int, /) -> Float64s:
        """Return those of rows `first` to `last`, shape (last - first or 1, columns or 1)."""


class Everywhere:
    """One number for all of a matrix."""

    def __init__(self, value: float) -> None:
        self._value = np.full((1, 1), value)

    def rows(self, _first: int, _last: int, _columns: int, /) -> Float64s:
        """Return the number, shape (1, 1)."""
        return self._value


class Grid:
    """One number for each block of a matrix; the blocks at the lower and right edge may be cut.

    Parameters
    ----------
    flat
        The numbers in C order: of a matrix, or of equal matrices one below the other.
    grid
        Rows and columns of blocks in one matrix.
    block
        Rows and columns of a block.
    rows
        Rows of one matrix.
    factor
        What every number is multiplied by.
    decode
        What turns stored numbers into those that count.
    of_column
        The column of blocks that each column of the matrix is of, where that is not the order of the columns.
    """

    def __init__(
        self,
        flat: FlatTensor,
        grid: tuple[int, int],
        block: tuple[int, int],
        rows: int,
        *,
        factor: float = 1.0,
        decode: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        of_column: NDArray[Any] | None = None,
    ) -> None:
        self._flat, self._grid, self._block, self._rows = flat, grid, block, rows
        self._factor, self._decode, self._of_column = factor, decode, of_column

    def rows(self, first: int, last: int, columns: int) -> Float64s:
        """Return the numbers of rows `first` to `last`, shape (last - first, columns), or (last - first, 1)."""
        height, width = self._grid
        numbers = np.arange(first, last)
        wanted = numbers // self._rows * height + numbers % self._rows // self._block[0]
        low, high = int(wanted[0]), int(wanted[-1]) + 1
        stored = self._flat.values(low * width, high * width)
        held = (self._decode(stored) if self._decode else stored).astype(np.float64).reshape(-1, width)
        if self._factor != 1.0:
            held *= self._factor
        chosen: Float64s = held[wanted - low]
        if self._of_column is not None:
            return chosen[:, self._of_column]
        return chosen if width == 1 else np.repeat(chosen, self._block[1], axis=1)[:, :columns]


class UnpackedTensor(ByRows):
    """Codes in a matrix of bytes, as numbers.

    Parameters
    ----------
    stored
        The bytes.
    row_bytes
        Bytes of a row.
    columns
        Codes of a row that count; what is behind them fills the last byte or word.
    codes
        Takes bytes of shape (rows, row_bytes), returns numbers of shape (rows, columns or more).
    """

    def __init__(
        self, stored: FlatTensor, row_bytes: int, columns: int, codes: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> None:
        super().__init__(stored, row_bytes, columns)
        self._codes = codes

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        return self._codes(self.source_rows(first, last))[:, : self._columns]


class PackedDownTensor:
    """Zero points of shape (rows, groups) that are packed along their rows into 32-bit words, less 2^(bits - 1)."""

    def __init__(self, words: FlatTensor, bits: int, groups: int) -> None:
        self._words, self._bits, self._groups = words, bits, groups

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop` in C order."""
        bits, groups = self._bits, self._groups
        first, last = start // groups, -(-stop // groups)
        whole = first // 32 * 32  # 32 codes end where a word does
        words = self._words.values(whole * bits // 32 * groups, -(-last * bits // 32) * groups).reshape(-1, groups)
        codes = unpack(np.ascontiguousarray(words.T).view(np.uint8), bits)[:, first - whole : last - whole]
        zeros = codes.T.astype(np.int16).reshape(-1) - (1 << (bits - 1))
        return zeros[start - first * groups : stop - first * groups]

    def release(self, start: int, stop: int) -> None:
        """Do nothing: they are few."""


class DequantizedTensor(ByRows):
    """(code - zero point) * scale: float64.

    Parameters
    ----------
    codes
        In C order, of a matrix or of matrices one below the other.
    columns
        Columns of the matrix.
    scale, zero_point
        Those of every row; no zero point is 0.
    """

    def __init__(self, codes: FlatTensor, columns: int, scale: Factors, zero_point: Factors | None = None) -> None:
        super().__init__(codes, columns, columns)
        self._scale, self._zero_point = scale, zero_point

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows `first` to `last`."""
        weights = self.source_rows(first, last).astype(np.float64)
        if self._zero_point is not None:
            weights -= self._zero_point.rows(first, last, self._columns)
        weights *= self._scale.rows(first, last, self._columns)
        return weights


class BlockwiseTensor:
    """4-bit codes of a table, two a byte and the higher first, with a scale for each `block` of values: float64.

    Parameters
    ----------
    stored
        The bytes.
    table
        What the codes mean, shape (16,).
    scales
        Takes the numbers of the first and behind the last block, returns their scales.
    """

    def __init__(self, stored: FlatTensor, table: Float64s, block: int, scales: Callable[[int, int], Float64s]) -> None:
        self._stored, self._table, self._block, self._scales = stored, table, block, scales

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        first = start // 2
        held = self._stored.values(first, -(-stop // 2))
        codes = np.stack([held >> 4, held & 15], axis=-1).reshape(-1)[start - 2 * first : stop - 2 * first]
        of_block = np.arange(start, stop) // self._block
        low = int(of_block[0]) if stop > start else 0
        scales = self._scales(low, -(-stop // self._block))
        weights: Float64s = self._table[codes] * scales[of_block - low]
        return weights

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these values."""
        self._stored.release(start // 2, -(-stop // 2))


class BandedTensor:
    """A matrix whose stored form is another's rows and columns, computed some rows at a time and kept until the next.

    Parameters
    ----------
    columns
        Of the matrix.
    rows
        Of the matrix.
    band
        Takes the first row and the one behind the last, returns them, shape (last - first, columns).
    unit
        A band begins at a multiple of it.
    release
        Releases the memory of what is stored.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        band: Callable[[int, int], NDArray[Any]],
        *,
        unit: int,
        release: Callable[[], None],
    ) -> None:
        self._rows, self._columns, self._band, self._release = rows, columns, band, release
        self._height = max(1, _BAND_VALUES // max(1, columns) // unit) * unit

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        pieces, size = [], self._height * self._columns
        while start < stop:
            number = start // size
            end = min(stop, (number + 1) * size)
            pieces.append(_numbered(self, number)[start - number * size : end - number * size])
            start = end
        return np.concatenate(pieces) if pieces else np.empty(0)

    def numbered(self, number: int) -> NDArray[Any]:
        """Compute a band, as flat values."""
        first = number * self._height
        band = self._band(first, min(self._rows, first + self._height))
        self._release()
        return band.reshape(-1)

    def release(self, start: int, stop: int) -> None:
        """Do nothing: what was read is released as soon as a band of it is computed."""


@lru_cache(maxsize=2)
def _numbered(tensor: BandedTensor, number: int) -> NDArray[Any]:
    """Return a band of a tensor, of which the process keeps two: two tensors are read side by side."""
    return tensor.numbered(number)
