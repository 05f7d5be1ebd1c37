"""Parse and check the header of a safetensors file, whoever wrote it, in memory that its size bounds.

The format: 8 bytes of little-endian header length, a JSON header (name -> dtype, shape, data_offsets), the
data. https://github.com/huggingface/safetensors#format

The header is read member by member: JSON's objects take up to twenty times the memory of their text, and of 100 MB
that is 2 GB. What is left of a tensor is its name and an `Entry`, about 0.5 kB.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from _toolio.errors import ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES
from _toolio.tensors.foreign import advice_about

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 250_000
"""Tensors of one file. The largest model that is known, of 384 experts in each of 60 layers, has 140,000 in all."""
MAX_DIMENSIONS = 32
"""The most that every version of numpy takes."""
MAX_METADATA = 1000
"""Keys of a file's metadata."""
_MOST_FIELD_BYTES = 4000
"""Of the text of one tensor's fields."""

# Possessive (`*+`): no other way to match is kept or tried, so time and memory stay in proportion to the text.
_SPACE = rb"[ \t\r\n]*+"
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NAME = re.compile(_SPACE + rb"(" + _TEXT + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_STRING = re.compile(_TEXT, re.DOTALL)
_FLAT = re.compile(rb'\{(?:[^{}"]++|' + _TEXT + rb")*+\}", re.DOTALL)
"""An object without another in it: a tensor's fields, or the metadata."""
_BEHIND = re.compile(_SPACE + rb"([,}])")
_EMPTY = re.compile(rb"\{" + _SPACE + rb"\}")


class Entry(NamedTuple):
    """Where one tensor lies: format dtype, shape, and byte offsets from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def bad_header(path: Path, why: str) -> ToolError:
    """Return the error of a header that contradicts itself."""
    return ToolError(f"{path}: bad header: {why}; save the file again", kind="bad-header")


def truncated(path: Path, missing: int) -> ToolError:
    """Return the error of a file that ends before its last tensor does."""
    return ToolError(f"{path}: cut short: {missing} bytes are missing at its end; copy it again", kind="truncated")


def _not_safetensors(path: Path, start: bytes, why: str) -> ToolError:
    return ToolError(f"{path}: not a safetensors file: {advice_about(start) or why}", kind="not-safetensors")


def header_length(path: Path, start: bytes, size: int) -> int:
    """Return the header's length in bytes, checked against the file's size.

    Parameters
    ----------
    path
        The file, for messages.
    start
        Its first bytes: at least 9, or all that it has.
    size
        Its size in bytes.

    Raises
    ------
    ToolError
        Kind ``"truncated"`` or ``"not-safetensors"``.
    """
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


def parse_header(path: Path, text: bytes, size: int) -> tuple[dict[str, str], dict[str, Entry]]:
    """Parse a header.

    Parameters
    ----------
    path
        The file, for messages.
    text
        The header's bytes.
    size
        The file's size in bytes.

    Returns
    -------
    metadata : dict of str to str
        Of ``__metadata__``.
    entries : dict of str to Entry
        In the order of the header.

    Raises
    ------
    ToolError
        Kind ``"not-safetensors"``: it is not JSON; ``"bad-header"``, ``"truncated"``.
    """
    metadata: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    names = set[str]()
    dtypes: dict[str, str] = {}  # one text for all tensors of a dtype
    try:
        for name, value in _members(text, _FLAT):
            if name in names:
                raise bad_header(path, f"{_short(name)} is there twice")
            names.add(name)
            if len(names) > MAX_TENSORS:
                raise bad_header(path, f"it has more than the {MAX_TENSORS:,} tensors that are read of one file")
            if name == "__metadata__":
                metadata = _metadata(path, value)
                continue
            entry = _entry(path, _short(name), value, 8 + len(text))
            entries[name] = entry._replace(dtype=dtypes.setdefault(entry.dtype, entry.dtype))
    except (ValueError, RecursionError) as error:
        raise _not_safetensors(path, text[:32], "its header is not JSON") from error
    _check_layout(path, entries, 8 + len(text), size)
    return metadata, entries


def _short(name: str) -> str:
    return name if len(name) <= 100 else f"{name[:100]}..."


def _members(text: bytes, value: re.Pattern[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and value of each member of a JSON object; the value empty where it is of another form.

    Raises
    ------
    ValueError
        The text is no JSON object.
    """
    if found := _EMPTY.match(text):
        end = found.end()
    else:
        end, more = 1, text[:1] == b"{"
        while more:
            if not (name := _NAME.match(text, end)):
                raise ValueError("no name")
            found = value.match(text, name.end())
            yield _string(name[1]), found[0] if found else b""
            if not (found and (behind := _BEHIND.match(text, found.end()))):
                raise ValueError("no comma")
            end, more = behind.end(), behind[1] == b","
    if text[:1] != b"{" or text[end:].strip(b" \t\r\n"):
        raise ValueError("no object, or more than one")


def _string(text: bytes) -> str:
    found: str = json.loads(text.decode())
    if b"\\u" in text:
        found.encode()  # half a surrogate pair is no character
    return found


def _metadata(path: Path, text: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in _members(text, _STRING) if text else [("", b"")]:
        if not value:
            raise bad_header(path, "__metadata__ is not an object of strings")
        if key in found or len(found) == MAX_METADATA:
            raise bad_header(path, f"{_short(key)} is twice in its __metadata__, or behind {MAX_METADATA:,} other keys")
        found[key] = _string(value)
    return found


def is_count(value: object) -> bool:
    """Test whether a value of JSON is a whole number from 0 to 2^63 - 1, which a length or an offset can be."""
    return type(value) is int and 0 <= value < 1 << 63  # a JSON true is an int to isinstance


def _entry(path: Path, name: str, text: bytes, data_start: int) -> Entry:
    """Parse and check one tensor's entry of the header."""
    fields = json.loads(text.decode(), object_pairs_hook=_each_once) if 0 < len(text) <= _MOST_FIELD_BYTES else {}
    if not {"dtype", "shape", "data_offsets"} <= fields.keys():
        raise bad_header(path, f"{name} needs dtype, shape and data_offsets, each once")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str):
        raise bad_header(path, f"the dtype of {name} is not a string")
    if not isinstance(shape, list) or not all(map(is_count, shape)) or len(shape) > MAX_DIMENSIONS:
        raise bad_header(
            path, f"the shape of {name} is not a list of at most {MAX_DIMENSIONS} whole numbers of 0 to 2^63 - 1"
        )
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        raise bad_header(path, f"the data_offsets of {name} are not two whole numbers of 0 to 2^63 - 1")
    begin, end = offsets
    if begin > end:
        raise bad_header(path, f"{name} ends before it begins")
    if dtype in DTYPE_BYTES and end - begin != (wanted := math.prod(shape) * DTYPE_BYTES[dtype]):
        amount = wanted if is_count(wanted) else "more than 2^63"
        raise bad_header(path, f"{name} has {end - begin} bytes, but {dtype} of shape {shape} is {amount}")
    return Entry(dtype, tuple(shape), data_start + begin, data_start + end)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def _check_layout(path: Path, entries: Mapping[str, Entry], data_start: int, size: int) -> None:
    """Check that tensors lie side by side, and fill the file: bytes that belong to none could be anything."""
    reached, before = data_start, ""
    for begin, end, name in sorted((entry.begin, entry.end, name) for name, entry in entries.items()):
        if begin < reached and end > begin:
            raise bad_header(path, f"{_short(before)} and {_short(name)} overlap")
        if begin > reached:
            raise bad_header(path, f"{begin - reached} bytes in front of {_short(name)} belong to no tensor")
        if end > begin:
            reached, before = end, name
    if reached > size:
        raise truncated(path, reached - size)
    if reached < size:
        raise bad_header(path, f"{size - reached} bytes at its end belong to no tensor")
