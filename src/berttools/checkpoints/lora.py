"""Read PEFT's LoRA adapters, from their folders or weights, and merge them into their base tensor by tensor.

The merged weight is W + s B A (arXiv 2106.09685, section 4.1) with s = alpha / r, or alpha / sqrt(r) where the
adapter was trained so (arXiv 2312.03732).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import Checkpoint, Source, Stored, open_checkpoint, read_config
from berttools.checkpoints.names import align_names
from berttools.checkpoints.views import MergedTensor

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# PEFT puts the adapter's name behind some of these in memory, and in files of older versions.
_FACTOR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.(?!weight$|bias$)\w+)?(\.weight)?")
_WHOLE = re.compile(r"(.+?)(?:\.modules_to_save(?:\.\w+)?|\.base_layer)?\.(weight|bias)")

Factors = tuple[NDArray[np.float64], NDArray[np.float64]]


def open_tuned(path: str | os.PathLike[str], base: Checkpoint) -> Checkpoint:
    """Open a fine-tuned model: whole, or a LoRA adapter of `base`.

    Parameters
    ----------
    path
        As `berttools.checkpoints.files.open_checkpoint`, or the folder of an adapter or its weights.

    Returns
    -------
    Checkpoint
        Of an adapter, all of `base` under its own names: merged where the adapter has factors, replaced where it
        has the whole tensor (``modules_to_save``).

    Raises
    ------
    ToolError
        As `open_checkpoint`; and kind ``"adapter"``: another kind of adapter, or of another model.
    """
    path = Path(path)
    if path.name in _WEIGHTS:
        return _merge(path.parent, base)
    try:
        return open_checkpoint(path)
    except ToolError as error:
        if error.kind != "adapter":
            raise
    return _merge(path, base)


class _FactorNames(NamedTuple):
    """The names of two low-rank factors in the adapter's file, and whether they are of an embedding."""

    a: str
    b: str
    embedding: bool


class _Adapter:
    """The merged tensors, by the names of the base."""

    def __init__(
        self, base: Checkpoint, weights: Checkpoint, factored: Mapping[str, tuple[_FactorNames, float, bool]]
    ) -> None:
        self._base, self._weights, self._factored = base, weights, factored
        # Some tensors are worked on at a time; all factors at once may be as large as a model.
        self._factors = lru_cache(maxsize=4)(self._read_factors)

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order. Raises as `Checkpoint.flat`."""
        shape = self._base.tensors[name].shape
        return MergedTensor(self._base.flat(name), shape[1], partial(self._factors, name))

    def _read_factors(self, name: str) -> Factors:
        names, scale, transposed = self._factored[name]
        a, b = self._matrix(names.a), self._matrix(names.b)
        left, right = (a.T, b.T) if transposed else (b, a)
        return np.ascontiguousarray(left) * scale, np.ascontiguousarray(right)

    def _matrix(self, name: str) -> NDArray[np.float64]:
        stored = self._weights.tensors[name]
        return self._weights.flat(name).values(0, stored.size).astype(np.float64).reshape(stored.shape)


class _Renamed(NamedTuple):
    """One tensor of a checkpoint under another name."""

    weights: Checkpoint
    own_name: str

    def flat(self, _: str) -> FlatTensor:
        """Return the tensor as flat values in C order."""
        return self.weights.flat(self.own_name)


def _merge(folder: Path, base: Checkpoint) -> Checkpoint:
    config = read_config(folder / "adapter_config.json")
    _refuse_other_kinds(folder, config)
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise ToolError(f"{folder}: no {_WEIGHTS[0]} in it; copy it there", kind="adapter")
    with of_the_whole_run():
        weights = open_checkpoint(file)
        factored, whole = _sort(file, weights)
    shapes = {f"{module}.weight": _product_shape(file, weights, names) for module, names in factored.items()}
    tensors = base.tensors
    names = align_names(
        {name: stored.shape for name, stored in tensors.items()},
        shapes | {name: weights.tensors[own].shape for name, own in whole.items()},
    )
    lost = next((name for name in names.only_ft if name in shapes), None)
    if lost is not None:
        raise ToolError(f"{file}: adapts {lost}, which {base.path} lacks; give the adapter's own base", kind="adapter")
    merged: dict[str, tuple[_FactorNames, float, bool]] = {}
    sources: dict[str, tuple[Stored, Source]] = {name: (stored, base) for name, stored in tensors.items()}
    adapter = _Adapter(base, weights, merged)
    for name, own in names.pairs.items():
        if own in whole:
            sources[name] = (weights.tensors[whole[own]], _Renamed(weights, whole[own]))
            continue
        module = own.removesuffix(".weight")
        transposed = _is_transposed(file, name, tensors[name].shape, shapes[own], factored[module], config)
        merged[name] = (
            factored[module],
            _scale(config, module, weights.tensors[factored[module].a].shape[0]),
            transposed,
        )
        sources[name] = (Stored(tensors[name].dtype, tensors[name].shape, file), adapter)
    for own in names.only_ft:
        sources[own] = (weights.tensors[whole[own]], _Renamed(weights, whole[own]))
    return Checkpoint(folder, sources, base.config)


def _refuse_other_kinds(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ToolError(f"{folder}: an adapter of kind {kind}; only LORA can be merged here", kind="adapter")
    for option in ("use_dora", "use_qalora", "lora_bias", "trainable_token_indices", "arrow_config"):
        if config.get(option):
            raise ToolError(f"{folder}: LoRA with {option}; merge it with PEFT and give that", kind="adapter")
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(map(_is_expression, patterns)):
        raise ToolError(f"{folder}: its alpha_pattern is damaged; copy it again", kind="adapter")
    for name, alpha in {"lora_alpha": config.get("lora_alpha"), **patterns}.items():
        if type(alpha) not in (int, float):
            raise ToolError(f"{folder}: lora_alpha of {name} is {alpha!r}, no number; copy it again", kind="adapter")


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _sort(file: Path, weights: Checkpoint) -> tuple[dict[str, _FactorNames], dict[str, str]]:
    """Separate factors (module to names) from whole tensors (name in the model to name in the file)."""
    factors: dict[str, dict[str, str]] = {}
    whole = {}
    for key in weights.tensors:
        bare = key.removeprefix("base_model.model.")
        if match := _FACTOR.fullmatch(bare):
            factors.setdefault(match[1], {})[f"{match[2] or ''}{match[3]}"] = key
        elif ".lora_" not in bare and (match := _WHOLE.fullmatch(bare)):
            whole[f"{match[1]}.{match[2]}"] = key
        else:
            raise ToolError(f"{file}: holds {key}, which is no plain LoRA; merge it with PEFT", kind="adapter")
    factored = {}
    for module, found in factors.items():
        embedding = "embedding_A" in found
        wanted = ("embedding_A", "embedding_B") if embedding else ("A", "B")
        if found.keys() != set(wanted):
            raise ToolError(f"{file}: only one of the two factors of {module}; copy it again", kind="adapter")
        factored[module] = _FactorNames(found[wanted[0]], found[wanted[1]], embedding)
    if not factored and not whole:
        raise ToolError(f"{file}: no tensors in it; copy it again", kind="adapter")
    return factored, whole


def _product_shape(file: Path, weights: Checkpoint, names: _FactorNames) -> tuple[int, ...]:
    a, b = weights.tensors[names.a].shape, weights.tensors[names.b].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise ToolError(f"{file}: {names.a} and {names.b} are no factors of a matrix", kind="adapter")
    return (a[1], b[0]) if names.embedding else (b[0], a[1])


def _is_transposed(
    file: Path,
    name: str,
    shape: tuple[int, ...],
    product: tuple[int, ...],
    names: _FactorNames,
    config: Mapping[str, Any],
) -> bool:
    """Test whether the model stores the matrix transposed, as (in, out): GPT-2 does, and embeddings do."""
    if names.embedding and shape == product:
        return True
    if shape == product and shape[0] != shape[1]:
        return False
    if shape == product[::-1] and not names.embedding:
        return bool(config.get("fan_in_fan_out")) or shape[0] != shape[1]
    raise ToolError(
        f"{file}: adapts {name} as {product}, but it is {shape}; give the adapter's own base", kind="adapter"
    )


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return the scale s: alpha may be set module by module; the rank is that of the factors."""
    alpha: float = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
            alpha = value
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
