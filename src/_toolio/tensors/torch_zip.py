"""Files that ``torch.save`` writes since 1.6, by memory map and without torch.

Such a file is a zip of stored members: a pickle that says what the tensors are, and one member of bytes a storage.
The pickle is read with a list of six names that stand for tensors, storages and dicts; what it names besides is
refused, and so nothing in it is run: the rule of ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from _toolio.errors import ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES
from _toolio.tensors.header import Entry
from _toolio.tensors.reader import SafetensorsFile

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
T = TypeVar("T")

_MOST_BYTES = {"data.pkl": 100_000_000, "byteorder": 8}
_MOST_OTHER_BYTES = 1_000_000
"""Of a member that holds no storage: versions, an id."""
_LOCAL_HEADER = 30


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


class _Unusual(Exception):  # noqa: N818 - no error: torch itself may know what it is
    """Something that only torch can read, or refuse."""


def open_torch_zip(path: Path) -> SafetensorsFile | None:
    """Open the tensors by name in a file, or in its ``state_dict``, without reading them.

    Returns
    -------
    SafetensorsFile or None
        None where the file is of another kind, or holds anything but tensors in C order: pass it to
        `_toolio.tensors.torch_files.load_torch`, which reads it or raises what is wrong.

    Raises
    ------
    ToolError
        Kind ``"several-dicts"``: which of its tensors are the model's cannot be known; ``"bad-torch-file"``,
        ``"unsafe"``: as of `check_members`.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            (root,) = {name.partition("/")[0] for name in members}
            _check_sizes(path, archive)
            order = members.get(f"{root}/byteorder")
            if order is not None and archive.read(order) != b"little":
                return None
            pickled = archive.read(members[f"{root}/data.pkl"])
            _refuse_large_memos(pickled)
            saved = _Reader(io.BytesIO(pickled)).load()
            tensors = tensors_by_name(saved, path, _Tensor)
            entries = {name: _place(file, members, root, tensor) for name, tensor in tensors.items()}
    except ToolError:
        raise
    except Exception:
        # zipfile and pickle raise a dozen kinds where a file is damaged; torch reads it next, and raises what is wrong.
        return None
    return SafetensorsFile(path, {}, entries) if entries else None


def check_members(path: Path) -> None:
    """Refuse a zip of which torch would read more into memory than it has bytes, or a pickle that is too large.

    Raises
    ------
    ToolError
        Kind ``"bad-torch-file"``: it is damaged, or a member is compressed, which ``torch.save`` writes none, larger
        than the file, or larger than such a member can be; ``"unsafe"``: it is a TorchScript archive;
        ``"unreadable"``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    pickled = archive.read(name)
                    # torch knows no way to name anything but in plain letters; parsing takes longer than torch does.
                    if b"bytearray" in pickled:
                        refuse_byte_arrays(io.BytesIO(pickled), path)
    except ToolError:
        raise
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error
    except Exception as error:  # zipfile raises a dozen kinds where a file is damaged
        raise ToolError(f"{path}: not a whole torch file; copy it again", kind="bad-torch-file") from error


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    left = path.stat().st_size
    if any(_is_torchscript(name.partition("/")[2]) for name in archive.namelist()):  # of which code is compressed
        raise ToolError(f"{path}: a TorchScript archive is code; save its state dict", kind="unsafe")
    for member in archive.infolist():
        own = member.filename.partition("/")[2]
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise _too_large(path, member, "is compressed, and torch.save compresses none")
        if not own.startswith("data/") and member.file_size > _MOST_BYTES.get(own, _MOST_OTHER_BYTES):
            raise _too_large(path, member, f"would be {member.file_size:,} bytes")
        left -= member.file_size
        if left < 0:
            raise _too_large(path, member, "lies where others do, or behind the end of the file")


def _is_torchscript(own: str) -> bool:
    """Test whether a member is one that ``torch.jit.save`` writes and ``torch.save`` does not."""
    return own == "constants.pkl" or own.startswith("code/")


def _too_large(path: Path, member: zipfile.ZipInfo, why: str) -> ToolError:
    return ToolError(
        f"{path}: its member {member.filename[-80:]!a} {why}; save the weights as safetensors", kind="bad-torch-file"
    )


def refuse_byte_arrays(pickled: IO[bytes], path: Path) -> None:
    """Refuse the next pickle of a stream if it names ``bytearray``: a few bytes would make one of many gigabytes.

    What is no whole pickle is passed over.

    Raises
    ------
    ToolError
        Kind ``"unsafe-pickle"``.
    """
    try:
        named = any(str(argument).endswith("bytearray") for _, argument, _ in pickletools.genops(pickled))
    except Exception:  # what reads it next says what is wrong
        return
    if named:
        raise ToolError(
            f"{path}: holds an array of bytes besides tensors; where you trust it, save the weights as safetensors",
            kind="unsafe-pickle",
        )


def _refuse_large_memos(pickled: bytes) -> None:
    """Refuse a number under which something is to be kept that is larger than any list of what was read.

    The interpreter makes room for twice that number before it reads on: a few bytes could make it allocate 30 GB.
    """
    for code, argument, _ in pickletools.genops(pickled):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None and argument > len(pickled):
            raise _Unusual


def tensors_by_name(saved: Any, path: Path, kind: type[T]) -> dict[str, T]:
    """Find the tensors by name in what a file holds, or in its ``state_dict``.

    Parameters
    ----------
    saved
        What was saved.
    path
        The file, for the message.
    kind
        The type of a tensor.

    Returns
    -------
    dict of str to a tensor
        Empty where there is none.

    Raises
    ------
    ToolError
        Kind ``"several-dicts"``: there are others in a dict inside.
    """
    if isinstance(saved, dict) and isinstance(saved.get("state_dict"), dict):
        saved = saved["state_dict"]
    if not isinstance(saved, dict):
        return {}
    found = {name: value for name, value in saved.items() if isinstance(name, str) and isinstance(value, kind)}
    if found and (inner := next((name for name, value in saved.items() if _has_tensors(value, kind)), None)):
        # A training loop's {"model": ..., "step": ...}: the few at the top are not the model.
        raise ToolError(
            f"{path}: tensors at its top, such as {next(iter(found))}, and in {inner} too; which are the model's cannot"
            " be known: save the state dict alone",
            kind="several-dicts",
        )
    return found


def _has_tensors(value: Any, kind: type) -> bool:
    """Test whether a dict holds a tensor, in dicts inside it too."""
    seen, waiting = set[int](), [value]
    while waiting:
        inner = waiting.pop()
        # Each once: a few bytes can name the same dict in many places, or in itself.
        if isinstance(inner, dict) and id(inner) not in seen:
            seen.add(id(inner))
            if any(isinstance(each, kind) for each in inner.values()):
                return True
            waiting += inner.values()
    return False


def _place(file: Any, members: Mapping[str, zipfile.ZipInfo], root: str, tensor: _Tensor) -> Entry:
    """Return where in the file a tensor's bytes lie."""
    member = members[f"{root}/data/{tensor.storage.key}"]
    size = DTYPE_BYTES[tensor.storage.dtype]
    begin, length = tensor.offset * size, math.prod(tensor.shape) * size
    if member.compress_type != zipfile.ZIP_STORED or begin + length > member.file_size:
        raise _Unusual
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    if header[:4] != b"PK\x03\x04":
        raise _Unusual
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    begin += member.header_offset + _LOCAL_HEADER + names
    return Entry(tensor.storage.dtype, tensor.shape, begin, begin + length)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Stand in for torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise _Unusual
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != expected:
            raise _Unusual  # not in C order
        expected *= length
    return _Tensor(storage, offset, tuple(shape))


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    """Stand in for torch._utils._rebuild_parameter."""
    if not isinstance(tensor, _Tensor):
        raise _Unusual
    return tensor


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Reader(pickle.Unpickler):
    """Reads a pickle that names nothing but tensors, storages and dicts."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a name."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) not in _KNOWN:
            raise _Unusual
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a persistent id names."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or dtype not in DTYPE_BYTES or not isinstance(key, str):
            raise _Unusual
        return _Storage(dtype, key)
