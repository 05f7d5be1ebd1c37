"""Weights of an ONNX file that lie in files beside it ("external data")."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from _toolio.errors import ToolError
from facetools.extractors.graphs.package import import_onnx

_LARGEST = 2**31 - 1
"""Bytes of a model in one piece: the format's container holds no more."""


def read_onnx(path: Path) -> tuple[bytes, list[Path]]:
    """Read an ONNX file with all of its weights.

    Parameters
    ----------
    path
        The file. Weights outside it must lie in its folder or beneath: a path that leads elsewhere, also by a link,
        is refused, and nothing there is opened.

    Returns
    -------
    bytes
        The model in one piece. What is no ONNX file comes as it is; :func:`read_model` says so.
    list of Path
        The other files that were read, sorted.

    Raises
    ------
    ToolError
        A file is missing, empty, too short or elsewhere, or the whole is larger than 2 GB.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    data = _bytes_of(path, 0, None)
    if not data:
        raise ToolError(f"{path}: empty; copy it again", kind="truncated")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return data, []
    tensors = [each for each in _tensors(model.graph) if each.data_location == onnx.TensorProto.EXTERNAL]
    if not tensors:
        return data, []
    files, total = set(), len(data)
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(path, entries.get("location", ""))
        raw = _bytes_of(file, *(_number(path, entries.get(key)) for key in ("offset", "length")), model=path)
        total += len(raw)
        if total > _LARGEST:
            raise ToolError(f"{path}: more than 2 GB with its weights; no such network is read", kind="too-large")
        tensor.raw_data, tensor.data_location = raw, onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        files.add(file)
    return model.SerializeToString(), sorted(files)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _inside(path: Path, location: str) -> Path:
    """Return the file of weights at a location, which must be a path within the model's folder."""
    place = PurePosixPath(location)
    if not location:
        raise ToolError(f"{path}: its weights lie in another file, which it does not name", kind="extractor")
    folder = path.parent.resolve()
    plain = "\\" not in location and "\0" not in location and not place.is_absolute() and ".." not in place.parts
    # resolve() follows links, so that none of them leads out of the folder.
    if not plain or not (folder / place).resolve().is_relative_to(folder):
        raise ToolError(
            f"{path}: its weights lie in {location!r}, outside its folder; copy that file beside it and save it again",
            kind="extractor",
        )
    return path.parent / place


def _number(path: Path, value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise ToolError(f"{path}: a place of its weights is {value!r}, no number", kind="extractor")
    return int(value)


def _bytes_of(path: Path, offset: int | None, length: int | None, *, model: Path | None = None) -> bytes:
    """Read a file, or ``length`` bytes of it from ``offset`` on."""
    start = "" if model is None else f"{model}: its weights: "
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ToolError(f"{start}{path}: not a file", kind="unreadable")
        first, size = offset or 0, about.st_size
        count = size - first if length is None else length
        if count < 0 or first + count > size:
            raise ToolError(
                f"{start}{path}: {size} bytes, not {first + max(count, 0)}; copy it again", kind="truncated"
            )
        with path.open("rb") as stream:
            stream.seek(first)
            return stream.read(count)
    except FileNotFoundError:
        raise ToolError(f"{start}{path}: no such file; copy it beside the model", kind="not-found") from None
    except OSError as error:
        raise ToolError(f"{start}{path}: cannot be read: {error.strerror or error}", kind="unreadable") from None
