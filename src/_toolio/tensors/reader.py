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

import itertools
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from _toolio.errors import InputError, ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES, STORAGE, decode
from _toolio.tensors.foreign import advice_about
from _toolio.tensors.writer import METADATA_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_HEADER_BYTES = 100_000_000


class Entry(NamedTuple):
    """Where one tensor lies: format dtype, shape, and byte offsets from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


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
                raise _truncated(self.path, end - len(self._pages))
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
        ``"truncated"`` (the file ends early), ``"bad-header"`` (the header contradicts itself).
    """
    path = Path(path)
    with _readable(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(32)
        length = _header_length(path, start, size)
        file.seek(8)
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except _DuplicateNameError as error:
        raise _bad_header(path, f"{error} is there twice") from error
    except (ValueError, RecursionError) as error:
        raise _not_safetensors(path, start, "its header is not JSON") from error
    metadata = _checked_metadata(path, header.pop("__metadata__", {}))
    entries = {name: _entry(path, name, fields, 8 + length) for name, fields in header.items()}
    _check_layout(path, entries, size)
    return SafetensorsFile(path, metadata, entries)


class _DuplicateNameError(Exception):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateNameError(next(name for name in names if names.count(name) > 1))
    return found


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


def _not_safetensors(path: Path, start: bytes, why: str) -> ToolError:
    return ToolError(f"{path}: not a safetensors file: {advice_about(start) or why}", kind="not-safetensors")


def _bad_header(path: Path, why: str) -> ToolError:
    return ToolError(f"{path}: bad header: {why}; save the file again", kind="bad-header")


def _truncated(path: Path, missing: int) -> ToolError:
    return ToolError(f"{path}: cut short: {missing} bytes are missing at its end; copy it again", kind="truncated")


def _header_length(path: Path, start: bytes, size: int) -> int:
    """Return the header's length in bytes; `start` is at least the 9 first bytes of a whole file."""
    if size == 0:
        raise ToolError(f"{path}: empty; copy it again", kind="truncated")
    if size < 8:
        raise _not_safetensors(path, start, f"it has only {size} bytes")
    length = int.from_bytes(start[:8], "little")
    # A real header opens with a brace: what does not is not read, however large it claims to be.
    if start[8:9] not in (b"{", b""):
        raise _not_safetensors(path, start, "it has no JSON header")
    if length > MAX_HEADER_BYTES:
        raise _not_safetensors(path, start, f"its header would be {length} bytes, over the 100 MB allowed")
    if 8 + length > size:
        raise ToolError(
            f"{path}: cut short: its header of {length} bytes ends {8 + length - size} bytes behind the end"
            " of the file; copy it again",
            kind="truncated",
        )
    if length == 0:
        raise _not_safetensors(path, start, "its header is empty")
    return length


def _checked_metadata(path: Path, metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad_header(path, "__metadata__ is not an object of strings")
    return metadata


def is_count(value: object) -> bool:
    """Test whether a value of JSON is a whole number of 0 or more."""
    return type(value) is int and value >= 0  # a JSON true is an int to isinstance


def _entry(path: Path, name: str, fields: object, data_start: int) -> Entry:
    """Parse and check one tensor's entry of the header."""
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= fields.keys():
        raise _bad_header(path, f"{name} needs dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str):
        raise _bad_header(path, f"the dtype of {name} is not a string")
    if not isinstance(shape, list) or not all(map(is_count, shape)):
        raise _bad_header(path, f"the shape of {name} is not a list of whole numbers of 0 or more")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        raise _bad_header(path, f"the data_offsets of {name} are not two whole numbers of 0 or more")
    begin, end = offsets
    if begin > end:
        raise _bad_header(path, f"{name} ends before it begins")
    if dtype in DTYPE_BYTES and end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise _bad_header(
            path, f"{name} has {end - begin} bytes, but {dtype} of shape {shape} is "
            f"{math.prod(shape) * DTYPE_BYTES[dtype]}",
        )  # fmt: skip
    return Entry(dtype, tuple(shape), data_start + begin, data_start + end)


def _check_layout(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """Check that all tensors lie inside the file, and that none overlap."""
    by_place = sorted((entry.begin, entry.end, name) for name, entry in entries.items())
    for (_, end, name), (next_begin, next_end, next_name) in itertools.pairwise(by_place):
        if next_begin < end and next_end > next_begin:
            raise _bad_header(path, f"{name} and {next_name} overlap")
    last = max((end for _, end, _ in by_place), default=0)
    if last > size:
        raise _truncated(path, last - size)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata that `write_safetensors` wrote; empty for a file of another maker.

    Raises as `open_safetensors` does.
    """
    file = open_safetensors(path)
    try:
        found = json.loads(file.metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise _bad_header(file.path, f"its {METADATA_KEY} metadata is not JSON") from error
    if not isinstance(found, dict):
        raise _bad_header(file.path, f"its {METADATA_KEY} metadata is not an object")
    return found
