"""Read safetensors files larger than memory by memory map, without torch.

The format: 8 bytes of little-endian header length, a JSON header (name -> dtype, shape, data_offsets), the
data. https://github.com/huggingface/safetensors#format

The safetensors library reads what is taken into memory whole (`_toolio.tensors.torch_files.read_tensors`). This reader
is for passes over whole checkpoints in commands that need no torch. Of the library

- the module for numpy has no bfloat16 and no 8-bit float, and the module for torch takes 1.7 s of processor time and
  650 MB to import; this one adds 0.02 s to numpy's 0.08 s;
- a mapped file stays resident, where this one releases pages after use. Adding up a file of 1 GB took 0.31 s of
  processor time and 32 MB here; 0.28 s and 1,006 MB by the library's slices; 0.75 s and 1,246 MB by its tensors, which
  fail where a process may have 200 MB of its own. Copying it took 0.89 s and 31 MB here, 2.2 s and 1,978 MB there.

These are the least of 3 to 5 runs of ``benchmarks/safetensors_io.py 1 200`` on two busy cores, library 0.8.0.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from _toolio.errors import InputError, ToolError
from _toolio.json_text import TooDeepError, parse_json
from _toolio.tensors.dtypes import DTYPE_BYTES, STORAGE, decode
from _toolio.tensors.header import Entry, bad_header, header_length, parse_header, truncated
from _toolio.tensors.writer import METADATA_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FlatTensor(Protocol):
    """A tensor of any shape as a run of values in C order."""

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`, shape (stop - start,): float32 where numpy lacks the dtype."""

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these values; they can be read again."""


class ArrayTensor:
    """A `FlatTensor` over an array in memory; `dtype` is the format's name for what its bytes mean."""

    def __init__(self, array: NDArray[Any], dtype: str | None = None) -> None:
        self._flat = array.reshape(-1)
        self._dtype = dtype

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`."""
        piece = self._flat[start:stop]
        return piece if self._dtype is None else decode(piece, self._dtype)

    def stored(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop` undecoded."""
        return self._flat[start:stop]

    def release(self, start: int, stop: int) -> None:
        """Do nothing: the array stays in memory."""


class _MappedTensor:
    """A `FlatTensor` over a part of a memory map."""

    def __init__(self, pages: mmap.mmap, raw: NDArray[Any], entry: Entry) -> None:
        self._pages, self._raw, self._entry = pages, raw, entry

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop`, without a copy where numpy knows the dtype."""
        return decode(self._raw[start:stop], self._entry.dtype)

    def stored(self, start: int, stop: int) -> NDArray[Any]:
        """Return values `start` to `stop` as the file holds them."""
        return self._raw[start:stop]

    def bfloat16_bits(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return values `start` to `stop` as the file holds them, in uint16; None for another dtype than bfloat16."""
        return self._raw[start:stop] if self._entry.dtype == "BF16" else None

    def release(self, start: int, stop: int) -> None:
        """Return the pages to the system: a map's resident pages count as memory of this process."""
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows
            return
        size = DTYPE_BYTES[self._entry.dtype]
        low = (self._entry.begin + start * size) // mmap.PAGESIZE * mmap.PAGESIZE
        high = (self._entry.begin + stop * size) // mmap.PAGESIZE * mmap.PAGESIZE
        if high > low:
            self._pages.madvise(mmap.MADV_DONTNEED, low, high - low)


class SafetensorsFile:
    """One open file; `open_safetensors` makes it.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
        The header's ``__metadata__``.
    entries : dict of str to Entry
        Every tensor, in the order of the header, those of an unknown dtype too.
    """

    def __init__(self, path: Path, metadata: dict[str, str], entries: dict[str, Entry]) -> None:
        self.path, self.metadata, self.entries = path, metadata, entries
        self._pages: mmap.mmap | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file, once no array points into it."""
        self._pages = None  # mmap.close() would fail while an array still points into it

    def _map(self) -> mmap.mmap:
        if self._pages is None:
            with _readable(self.path), self.path.open("rb") as file:
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            end = max((entry.end for entry in self.entries.values()), default=0)
            if len(self._pages) < end:
                raise truncated(self.path, end - len(self._pages))
        return self._pages

    def entry(self, name: str) -> Entry:
        """Return where tensor `name` lies.

        Raises
        ------
        InputError
            Kind ``"no-tensor"``; ``"unknown-dtype"``: it is stored in a dtype that cannot be read here.
        """
        if (entry := self.entries.get(name)) is None:
            raise InputError(f"{self.path}: no tensor {name}", kind="no-tensor")
        if entry.dtype not in STORAGE:
            raise InputError(f"{self.path}: cannot read dtype {entry.dtype} of {name}", kind="unknown-dtype")
        return entry

    def flat(self, name: str) -> FlatTensor:
        """Return tensor `name` as a run of values. Raises as `entry`."""
        import numpy as np

        entry, pages = self.entry(name), self._map()
        raw = np.frombuffer(pages, np.uint8)[entry.begin : entry.end].view(STORAGE[entry.dtype])
        return _MappedTensor(pages, raw, entry)

    def chunks(self, name: str, values_per_chunk: int) -> Iterator[NDArray[Any]]:
        """Yield tensor `name` in C order, some values at a time, and release used pages.

        Yields arrays of shape (at most `values_per_chunk`,), dtype as of `FlatTensor.values`. Read-only, and
        best not kept: keeping one keeps the file open. Raises as `entry`.
        """
        flat, total = self.flat(name), math.prod(self.entries[name].shape)
        for start in range(0, total, values_per_chunk):
            stop = min(start + values_per_chunk, total)
            yield flat.values(start, stop)
            flat.release(start, stop)

    def tensor(self, name: str) -> NDArray[Any]:
        """Return tensor `name` whole, in its shape: a read-only view of the file.

        It is float32, and a copy, where numpy lacks the dtype. Raises as `entry`.
        """
        flat, shape = self.flat(name), self.entries[name].shape
        return flat.values(0, math.prod(shape)).reshape(shape)


def stored_bits(flat: FlatTensor, start: int, stop: int) -> NDArray[Any]:
    """Return values `start` to `stop` of a file's or an array's tensor as they are stored, as unsigned integers."""
    stored: NDArray[Any] = flat.stored(start, stop)  # type: ignore[attr-defined]
    return stored.view(f"u{stored.dtype.itemsize}")


def open_safetensors(path: str | os.PathLike[str]) -> SafetensorsFile:
    """Open a file and check its whole header against its size. No tensor is read yet.

    Raises
    ------
    ToolError
        One line that names the file. Kinds: ``"not-found"``, ``"unreadable"``, ``"not-safetensors"``,
        ``"truncated"`` (the file ends early), ``"bad-header"`` (the header contradicts itself, or is larger than any
        that is read here: see `_toolio.tensors.header`).
    """
    path = Path(path)
    with _readable(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(32)
        length = header_length(path, start, size)
        file.seek(8)
        text = file.read(length)
    metadata, entries = parse_header(path, text, size)
    return SafetensorsFile(path, metadata, entries)


class _readable:  # noqa: N801 - used as a statement
    """Raise an `OSError` inside the block as one line about `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FileNotFoundError):
            raise ToolError(f"{self._path}: no such file", kind="not-found") from error
        if isinstance(error, IsADirectoryError):
            raise ToolError(f"{self._path}: is a folder, name a file", kind="unreadable") from error
        if isinstance(error, OSError):
            raise ToolError(f"{self._path}: cannot be read: {error.strerror or error}", kind="unreadable") from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata that `write_safetensors` wrote; empty for a file of another maker.

    Raises as `open_safetensors` does.
    """
    file = open_safetensors(path)
    try:
        found = parse_json(file.metadata.get(METADATA_KEY, "{}"))
    except ValueError as error:
        what = str(error) if isinstance(error, TooDeepError) else "not JSON"
        raise bad_header(file.path, f"its {METADATA_KEY} metadata is {what}") from error
    if not isinstance(found, dict):
        raise bad_header(file.path, f"its {METADATA_KEY} metadata is not an object")
    return found
