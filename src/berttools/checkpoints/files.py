"""Open the weights of a base or fine-tuned model: a folder, one file, or shards with an index.

safetensors and a plain `.bin` need numpy only; any other file of torch's is opened by torch with
``weights_only=True`` or not at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from _toolio.errors import InputError, ToolError
from _toolio.json_text import TooDeepError, parse_json
from _toolio.tensors.foreign import pointer_advice
from _toolio.tensors.reader import ArrayTensor, FlatTensor, SafetensorsFile, open_safetensors
from _toolio.tensors.torch_files import load_torch
from berttools.checkpoints.model_folder import CHOSEN_WEIGHTS, inner_folder

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_LOOKED_FOR = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_CHUNK = 1 << 18
_MOST_JSON_BYTES = 50_000_000
"""Of an index or a configuration: an index of 140,000 tensors has 12 million."""
_TORCH_SUFFIXES = {".bin", ".pt", ".pth"}


EMPTY = (
    "has no entries, as DeepSpeed ZeRO-3 leaves weights that were not gathered; write them whole with its"
    " zero_to_fp32.py, or save with stage3_gather_16bit_weights_on_model_save"
)
"""What is said of a tensor of size 0 where it should have values."""


class Stored(NamedTuple):
    """The header of a tensor.

    Attributes
    ----------
    dtype
        The name that safetensors uses, of what the file holds.
    shape
        Of the values; a packed weight's own, not that of its bytes.
    path
        The file.
    scaled
        The values are computed from codes and their scales: other numbers than `dtype` can hold.
    """

    dtype: str
    shape: tuple[int, ...]
    path: Path
    scaled: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Source(Protocol):
    """A source of tensors by name: a file, or a view of files."""

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order."""


class Checkpoint:
    """Tensors by name, in one file or many; `open_checkpoint` makes it.

    Attributes
    ----------
    path : Path
        What was opened: the folder (of one of sentence-transformers, that inside it), the file, or the index.
    tensors : dict of str to Stored
        Every tensor, sorted by name.
    config : dict
        What the folder's config.json says; empty where a file was named, or there is none.
    """

    def __init__(
        self, path: Path, sources: Mapping[str, tuple[Stored, Source]], config: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.config = path, dict(config or {})
        self.tensors = {name: sources[name][0] for name in sorted(sources)}
        self._sources = {name: source for name, (_, source) in sources.items()}

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors, sorted."""
        return sorted({stored.path for stored in self.tensors.values()})

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order.

        Raises
        ------
        InputError
            Kind ``"unknown-dtype"`` or ``"no-tensor"``.
        """
        if name not in self._sources:
            raise InputError(f"{self.path}: no tensor {name}", kind="no-tensor")
        return self._sources[name].flat(name)

    def chunks(self, name: str, values_per_chunk: int) -> Iterator[NDArray[Any]]:
        """Yield a tensor in C order, arrays of shape (at most `values_per_chunk`,). Raises as `flat`."""
        flat, count = self.flat(name), self.tensors[name].size
        for start in range(0, count, values_per_chunk):
            stop = min(start + values_per_chunk, count)
            yield flat.values(start, stop)
            flat.release(start, stop)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a model's weights without reading them.

    Parameters
    ----------
    path
        A folder (what its config.json names as ``transformers_weights`` is taken, or else the first of
        model.safetensors, its index, pytorch_model.bin, its index), one of sentence-transformers, a
        .safetensors, .bin, .pt or .pth file, or an index (``*.index.json``).

    Raises
    ------
    ToolError
        One line that names the file. Kinds: ``"not-found"``, ``"unreadable"``, ``"no-weights"``,
        ``"adapter"``, ``"bad-index"``, ``"missing-shard"``, ``"twice"`` (two shards differ in a tensor),
        ``"several-dicts"`` (which of a file's tensors are the model's cannot be known), ``"unsafe-pickle"``,
        ``"bad-torch-file"``, and those of `open_safetensors`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            folder = inner_folder(path)
            config = read_config(folder / "config.json")
            return _open(folder, _weights_in(folder, config.get(CHOSEN_WEIGHTS)), config)
        if not path.exists():
            raise ToolError(
                f"{path}: no such file or folder; name a local one, nothing is downloaded", kind="not-found"
            )
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error
    return _open(path, path)


def refuse_emptied(model: Checkpoint) -> None:
    """Refuse a model of whose matrices one has no entries.

    Raises
    ------
    ToolError
        Kind ``"empty-tensor"``; the message says how it may have come about.
    """
    if empty := next(
        (name for name, stored in model.tensors.items() if name.endswith("weight") and not stored.size), None
    ):
        raise ToolError(f"{model.path}: {empty} {EMPTY}", kind="empty-tensor")


def _open(named: Path, file: Path, config: Mapping[str, Any] | None = None) -> Checkpoint:
    return Checkpoint(named, _open_index(file) if file.name.endswith(".json") else _open_file(file), config)


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object beside a model; empty where there is none.

    Raises
    ------
    ToolError
        Kind ``"bad-config"``: it is something else, or cannot be read.
    """
    try:
        _refuse_large(path, "bad-config")
        config = parse_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="bad-config") from error
    except ValueError as error:
        what = str(error) if isinstance(error, TooDeepError) else "not JSON"
        raise ToolError(f"{path}: {what}; {pointer_advice(path) or 'copy it again'}", kind="bad-config") from error
    if not isinstance(config, dict):
        raise ToolError(f"{path}: not a JSON object; copy it again", kind="bad-config")
    return config


def _refuse_large(path: Path, kind: str) -> None:
    """Refuse a file that is larger than any of its kind: as JSON it would take many times its size of memory."""
    if (size := path.stat().st_size) > _MOST_JSON_BYTES:
        raise ToolError(
            f"{path}: of {size:,} bytes, over the {_MOST_JSON_BYTES:,} that are read of such a file; copy it again",
            kind=kind,
        )


def _weights_in(folder: Path, chosen: object) -> Path:
    """Return the file of weights, or the index, of a model folder: what its configuration has chosen, if it has."""
    present = {entry.name for entry in folder.iterdir()}
    if chosen is not None:
        if chosen in present and isinstance(chosen, str):
            return folder / chosen
        # A folder may come from anybody: its configuration names files in it and no others.
        raise ToolError(
            f"{folder}: its config.json names {chosen!a:.80} as its {CHOSEN_WEIGHTS}, which is no file in it; copy"
            " that there, or remove the entry",
            kind="no-weights",
        )
    for name in _LOOKED_FOR:
        if name in present:
            return folder / name
    if present & {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}:
        raise ToolError(
            f"{folder}: a PEFT adapter, which is no model by itself; give it as FT, behind its base",
            kind="adapter",
        )
    others = sorted(name for name in present if Path(name).suffix in {".safetensors", *_TORCH_SUFFIXES})
    advice = f"it has {', '.join(others[:3])}: name the file" if others else "give a model's folder"
    raise ToolError(f"{folder}: none of {', '.join(_LOOKED_FOR)} in it; {advice}", kind="no-weights")


def _open_file(path: Path) -> dict[str, tuple[Stored, Source]]:
    file = _open_torch_zip(path) if path.suffix in _TORCH_SUFFIXES else open_safetensors(path)
    if file is None:
        torch_file = _TorchFile(path)
        return {name: (stored, torch_file) for name, stored in torch_file.tensors.items()}
    return {name: (Stored(entry.dtype, entry.shape, path), file) for name, entry in file.entries.items()}


def _open_torch_zip(path: Path) -> SafetensorsFile | None:
    from _toolio.tensors.torch_zip import open_torch_zip

    return open_torch_zip(path)


def _open_index(path: Path) -> dict[str, tuple[Stored, Source]]:
    """Open the shards that an index names, and take from each the tensors that the index assigns to it."""
    weight_map = _weight_map(path)
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (path.parent / shard).is_file()]
    if missing:
        raise ToolError(
            f"{path.parent / missing[0]}: missing, one of {len(missing)} of {len(shards)} shards that {path.name}"
            " names and the folder lacks; copy it there",
            kind="missing-shard",
        )
    opened = {shard: _open_file(path.parent / shard) for shard in shards}
    for name, shard in weight_map.items():
        if name not in opened[shard]:
            raise ToolError(
                f"{path.parent / shard}: no tensor {name}, though {path.name} says so; copy both again",
                kind="bad-index",
            )
    found = {name: opened[shard][name] for name, shard in weight_map.items()}
    for shard, tensors in opened.items():
        for name in tensors.keys() & found.keys():
            if weight_map[name] != shard and not _are_equal(name, found[name], tensors[name]):
                # Some readers take what the index assigns, and transformers takes the last.
                raise ToolError(
                    f"{path.parent / shard}: {name} is in {weight_map[name]} too, with other values; which of them"
                    " counts cannot be known: save the model again",
                    kind="twice",
                )
    return found


def _are_equal(name: str, one: tuple[Stored, Source], other: tuple[Stored, Source]) -> bool:
    (stored, source), (others, second) = one, other
    if (stored.dtype, stored.shape) != (others.dtype, others.shape):
        return False
    left, right = source.flat(name), second.flat(name)
    for start in range(0, stored.size, _CHUNK):
        stop = min(start + _CHUNK, stored.size)
        if not (left.values(start, stop) == right.values(start, stop)).all():
            return False
        for flat in (left, right):
            flat.release(start, stop)
    return True


def _weight_map(path: Path) -> dict[str, str]:
    try:
        _refuse_large(path, "bad-index")
        index = parse_json(path.read_bytes())
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error
    except ValueError as error:
        what = str(error) if isinstance(error, TooDeepError) else "not JSON"
        raise ToolError(f"{path}: {what}; {pointer_advice(path) or 'copy it again'}", kind="bad-index") from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ToolError(f"{path}: no weight_map in it; name an index of shards", kind="bad-index")
    for shard in weight_map.values():
        # An index may come from anybody: it names files of its own folder and no others.
        if not isinstance(shard, str) or not shard or Path(shard).name != shard:
            raise ToolError(f"{path}: {shard!r} is not the name of a file beside it", kind="bad-index")
    return weight_map


class _TorchFile:
    """A file of torch.save, read with ``weights_only=True``: nothing in it is run."""

    def __init__(self, path: Path) -> None:
        self._values = _load_torch(path)
        self.tensors = {
            name: Stored(_format_dtype(tensor), tuple(tensor.shape), path) for name, tensor in self._values.items()
        }

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order. Raises as `Checkpoint.flat`."""
        import torch

        tensor, stored = self._values[name].detach(), self.tensors[name]
        if stored.dtype not in _TORCH_DTYPES.values():
            raise InputError(f"{stored.path}: cannot read dtype {stored.dtype} of {name}", kind="unknown-dtype")
        flat = tensor.contiguous().reshape(-1)
        if stored.dtype == "BF16":
            return ArrayTensor(flat.view(torch.uint16).numpy(), "BF16")
        if stored.dtype.startswith("F8_"):
            return ArrayTensor(flat.view(torch.uint8).numpy(), stored.dtype)
        return ArrayTensor(flat.numpy())


_TORCH_DTYPES = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8",
    "torch.uint64": "U64", "torch.uint32": "U32", "torch.uint16": "U16", "torch.uint8": "U8",
    "torch.bool": "BOOL", "torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip


def _format_dtype(tensor: torch.Tensor) -> str:
    if str(tensor.layout) != "torch.strided":
        return str(tensor.layout)
    return _TORCH_DTYPES.get(str(tensor.dtype), str(tensor.dtype))


def _load_torch(path: Path) -> dict[str, torch.Tensor]:
    import torch

    from _toolio.tensors.torch_zip import tensors_by_name

    if not (found := tensors_by_name(load_torch(path), path, torch.Tensor)):
        raise ToolError(f"{path}: no tensors by name in it; give a model's state dict", kind="no-weights")
    return found
