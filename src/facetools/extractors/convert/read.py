"""Read weight files of other projects into state dicts; nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, in_one_line
from _toolio.files.hashing import sha256_of_files
from _toolio.json_text import parse_json
from _toolio.tensors.torch_files import load_torch, read_tensors
from facetools.extractors.files import SCHEMA
from facetools.extractors.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")


@dataclass(frozen=True)
class SourceWeights:
    """Tensors of a file of weights.

    Attributes
    ----------
    path
        The file or folder.
    containers
        Every group of tensors in it, by its place ("" for the file itself).
    sha256
        Of the file; of a folder or a file with weights in others, of the files that were read, concatenated.
    architecture
        Its name, where the file says it.
    options
        What the architecture needs besides the tensors.
    settings
        Where the file says them.
    """

    path: Path
    containers: Mapping[str, Mapping[str, Tensor]]
    sha256: str
    architecture: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings | None = None


def read_weights(path: Path) -> SourceWeights:
    """Read a file of weights, or a Hugging Face folder of a CLIP. Nothing is ever unpickled.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.ckpt``, ``.bin``, ``.tar`` (torch), ``.safetensors``, ``.onnx`` (with its weights in
        files beside it, or not), ``.dat`` (dlib's face recognition network), or a folder with ``config.json``.

    Raises
    ------
    ToolError
        It is none of these, damaged, or holds Python objects that only unpickling could make.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ToolError(f"{path}: no such file", kind="not-found")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix == ".onnx":
        return _read_onnx(path)
    if suffix == ".dat":
        import torch

        from facetools.extractors.architectures.dlib_resnet import read_dat

        state = {key: torch.from_numpy(value) for key, value in read_dat(path).items()}
        return SourceWeights(path, {"": state}, sha256_of_files(path), "dlib-resnet")
    if suffix in _TORCH_SUFFIXES:
        return SourceWeights(path, _containers_of(path, load_torch(path)), sha256_of_files(path))
    raise ToolError(
        f"{path}: {suffix or 'no ending'} is of no known kind; give {', '.join(_TORCH_SUFFIXES)}, .safetensors, .onnx,"
        " .dat or a Hugging Face folder",
        kind="unknown-kind",
    )


def _containers_of(path: Path, loaded: object) -> dict[str, dict[str, Tensor]]:
    found = dict(_walk(loaded, "", 3))
    if not found:
        raise ToolError(f"{path}: no tensors by name in it; give a network's state dict", kind="no-weights")
    return found


def _walk(loaded: object, name: str, levels: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    import torch

    if not isinstance(loaded, Mapping):
        return
    named = [(key, value) for key, value in loaded.items() if isinstance(key, str)]
    tensors = {key: v for key, v in named if isinstance(v, torch.Tensor) and v.layout == torch.strided}
    if tensors:
        yield name, tensors
    for key, value in named:
        if levels:
            yield from _walk(value, f"{name}.{key}" if name else key, levels - 1)


def _read_safetensors(path: Path) -> SourceWeights:
    from _toolio.tensors.reader import read_metadata
    from facetools.extractors.files import read_about

    containers = {"": _tensors_of(path)}
    if "schema" not in read_metadata(path):
        return SourceWeights(path, containers, sha256_of_files(path))
    about = read_about(path)
    try:
        settings = Settings.read(about["settings"])
        options = dict(about["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError(
            f"{path}: its {SCHEMA} metadata is damaged: {error}; import it again", kind="extractor"
        ) from None
    return SourceWeights(path, containers, sha256_of_files(path), about["architecture"], options, settings)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    if not tensors:
        raise ToolError(f"{path}: no tensor in it", kind="no-weights")
    return tensors


def _read_onnx(path: Path) -> SourceWeights:
    import torch

    from facetools.extractors.graphs.external import read_onnx

    data, files = read_onnx(path)
    graph = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return SourceWeights(path, {"": {"graph": graph}}, sha256_of_files(path, *files), "onnx")


def _read_folder(folder: Path) -> SourceWeights:
    """Read the ``config.json`` and the weights, whole or in shards, of a Hugging Face folder."""
    from facetools.extractors.architectures.clip import read_config

    config = folder / "config.json"
    try:
        read = parse_json(config.read_bytes())
        fields: dict[str, Any] = read if isinstance(read, dict) else {}
        options = read_config(fields)
    except FileNotFoundError:
        raise ToolError(
            f"{folder}: no config.json in it; give a file or a Hugging Face folder", kind="missing"
        ) from None
    except (OSError, TypeError, ValueError) as error:
        raise ToolError(f"{folder}: not the folder of a CLIP: {in_one_line(error)}", kind="bad-folder") from None
    files = _weight_files(folder, fields.get("transformers_weights"))
    if files[0].suffix == ".bin":
        containers = _containers_of(files[0], load_torch(files[0]))
    else:
        containers = {"": _tensors_of_shards(files)}
    return SourceWeights(folder, containers, sha256_of_files(config, *files), "clip", options)


def _tensors_of_shards(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read all tensors of shards.

    Raises
    ------
    ToolError
        Two shards have different tensors of one name. An index may choose one; transformers takes the last.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    origins: dict[str, Path] = {}
    for file in files:
        for key, value in _tensors_of(file).items():
            if key in tensors and not torch.equal(tensors[key], value):
                raise ToolError(
                    f"{file}: {key} is in {origins[key].name} too, with other values; which of them counts cannot be"
                    " known: save the model again",
                    kind="twice",
                )
            tensors[key], origins[key] = value, file
    return tensors


def _weight_files(folder: Path, named: object) -> list[Path]:
    """Return the files of weights: what config.json names, if it does, or those of the usual names."""
    index = folder / "model.safetensors.index.json"
    if isinstance(named, str):
        # A folder may come from anybody: its configuration names files in it and no others.
        if Path(named).name != named or not os.path.isfile(folder / named):  # noqa: PTH113 - as below
            raise ToolError(
                f"{folder}: its config.json names {named!a} as its transformers_weights, which is no file in it;"
                " copy that there, or remove the entry",
                kind="missing",
            )
        if not named.endswith(".index.json"):
            return [folder / named]
        index = folder / named
    else:
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (folder / name).is_file():
                return [folder / name]
    try:
        names = sorted(set(parse_json(index.read_bytes())["weight_map"].values()))
        # A shard lies in the folder: what an index says must not lead anywhere else.
        inside = bool(names) and all(Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        inside = False
    if not inside:
        raise ToolError(f"{folder}: no model.safetensors, whole or in shards, and no pytorch_model.bin", kind="missing")
    # Unlike Path.is_file, this is False for a name that no file can have.
    missing = [name for name in names if not os.path.isfile(folder / name)]  # noqa: PTH113
    if missing:
        raise ToolError(f"{folder}: no {missing[0]!a}, which its {index.name} names; copy it there", kind="missing")
    return [folder / name for name in names]
