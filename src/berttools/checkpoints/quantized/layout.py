"""What a checkpoint says of its quantized weights: its configuration, and which tensors stand beside which."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError, ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.expressions import NotPlainError, compile_expression
from berttools.checkpoints.files import Checkpoint, Stored, read_config
from berttools.checkpoints.quantized.codes import StoredBytes

READ = frozenset({
    "awq", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "modelopt", "modelopt_fp4", "mxfp4",
    "mxfp8", "quanto", "torchao",
})  # fmt: skip
"""Values of quant_method whose tensors are looked at one by one; a model of any other is refused."""

_FORMATS = {
    "dense", "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "nvfp4-pack-quantized",
    "mxfp4-pack-quantized", "mxfp6-pack-quantized", "mxfp8-quantized", "mixed-precision",
}  # fmt: skip
"""Formats of compressed-tensors whose tensors are looked at one by one."""

ACTIVATIONS = re.compile(
    r"(?:input|output|activation|act|[qkv]|kv|kv_cache)_(?:scale|zero_point|global_scale|scaling_factor|scale_ub)"
    r"|activation_scaling_factor|input_amax|output_amax"
)
"""Names of what scales activations, and says nothing of weights."""

_SCALING = re.compile(r"scal|zero|absmax|amax|SCB|codebook|g_idx|quant|lut|shift", re.I)
_WHOLE_MODULE = {"weight", "qweight", "weight_packed", "_weight_qdata", "W_q", "codes"}
"""Leaves of names beside which a module has its bias, and nothing else that is no companion."""

MX_BLOCK = 32
"""Values that share a scale in the formats of OCP Microscaling Formats v1.0."""

ADVICE = "dequantize it with the library that made it, and give that"


class NotCertain(Exception):  # noqa: N818 - no error: the weight is refused by a message that this completes
    """Why codes cannot be read for certain."""


@dataclass(frozen=True)
class Weight:
    """A quantized weight.

    Attributes
    ----------
    name
        That of the weight in a model that is not quantized.
    own
        That of the tensor of codes.
    stored
        The header that it would have, `Stored.scaled`.
    make
        Returns its values; raises an `InputError` where it cannot be read.
    parts
        The names of all tensors that it is made of.
    """

    name: str
    own: str
    stored: Stored
    make: Callable[[], FlatTensor]
    parts: frozenset[str]

    def flat(self, _: str) -> FlatTensor:
        """Return the weight as flat values in C order. Raises InputError where it cannot be read."""
        return self.make()


class Layout:
    """The tensors of a checkpoint by module, and its quantization config."""

    def __init__(self, model: Checkpoint) -> None:
        self.model, self.tensors = model, model.tensors

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What config.json, in the folder or beside the file, says of quantization; empty where it says nothing."""
        path = self.model.path
        folder = path if path.is_dir() else path.parent
        found = self.model.config or _optional(folder / "config.json")
        for place in (found, found.get("text_config"), found.get("llm_config")):
            for key in ("quantization_config", "compression_config"):
                if isinstance(place, Mapping) and isinstance(place.get(key), Mapping):
                    said: Mapping[str, Any] = place[key]
                    return said
        # Of AutoGPTQ before it wrote its configuration into the model's.
        alone = _optional(folder / "quantize_config.json")
        return {"quant_method": "gptq", **alone} if "bits" in alone else {}

    @property
    def method(self) -> str | None:
        """Quantization method; None where the configuration names none."""
        found = self.config.get("quant_method")
        if found is None and (self.config.get("load_in_8bit") or self.config.get("load_in_4bit")):
            return "bitsandbytes"
        return None if found is None else str(found)

    def refuse_unknown_methods(self) -> bool:
        """Raise a ToolError of kind ``"quantization"`` for a method, or a format of one, that is not read.

        Of a file beside which the configuration stands, return whether the method is read.
        """
        if self.method is not None and self.method not in READ:
            if self.model.path.is_dir():
                raise self._refusal(f"quantized by {self.method}, which is not read")
            return False
        if self.method != "compressed-tensors":
            return True
        sparse = self.config.get("sparsity_config")
        sparse_format = sparse.get("format") if isinstance(sparse, Mapping) else None
        if sparse_format not in (None, "dense"):
            raise self._refusal(f"stored sparse as {sparse_format}, which is not read")
        stored_as = self.config.get("format", "dense")
        if not isinstance(stored_as, str) or stored_as not in _FORMATS:
            raise self._refusal(f"of compressed-tensors' format {str(stored_as)[:40]}, which is not read")
        transforms = self.config.get("transform_config")
        if isinstance(transforms, Mapping) and transforms.get("config_groups"):
            raise self._refusal("with rotated weights (transform_config), which are not turned back")
        return True

    def _refusal(self, what: str) -> ToolError:
        return ToolError(f"{self.model.path}: {what}; {ADVICE}", kind="quantization")

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order. Raises as `Checkpoint.flat`."""
        return self.model.flat(name)

    def stored_bytes(self, name: str) -> StoredBytes:
        """Return a tensor as its bytes in the file. Raises as `Checkpoint.flat`."""
        return StoredBytes(self.model.flat(name), DTYPE_BYTES[self.tensors[name].dtype])

    def array(self, name: str) -> NDArray[Any]:
        """Return a small tensor whole, in its shape. Raises as `Checkpoint.flat`."""
        stored = self.tensors[name]
        return self.model.flat(name).values(0, stored.size).reshape(stored.shape)

    def number(self, name: str) -> float:
        """Return the value of a tensor of one. Raises as `Checkpoint.flat`."""
        return float(self.array(name).reshape(-1)[0])

    @cached_property
    def _leaves(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.tensors:
            parts = name.split(".")
            for depth in range(max(1, len(parts) - 2), len(parts)):
                found.setdefault(".".join(parts[:depth]) + ".", []).append(name)
        return found

    def companions(self, name: str) -> set[str]:
        """Return the names of the tensors that say how the codes in tensor `name` are to be read."""
        stem, leaf = split_name(name)
        if leaf == "_data":  # quanto's: all that has the weight's name in front
            return {each for each in self._leaves.get(f"{name.partition('._data')[0]}.", ()) if each != name}
        module = self._leaves.get(stem, []) if stem else list(self.tensors)
        below = {each for each in self._leaves.get(f"{name}.", ()) if each != name}
        beside = set()
        for each in module:
            own = each[len(stem) :]
            if each == name or "." in own or own.endswith("bias"):
                continue
            if ACTIVATIONS.fullmatch(own.removeprefix(f"{leaf}_")):
                continue
            if own.startswith(f"{leaf}_") or (leaf in _WHOLE_MODULE if stem else _SCALING.search(own)):
                beside.add(each)
        return below | beside

    def activations(self, name: str) -> set[str]:
        """Return the names of the tensors that scale what goes into or comes out of the module of tensor `name`."""
        stem = split_name(name)[0]
        found = self._leaves.get(stem, [])
        return {each for each in found if ACTIVATIONS.fullmatch(each[len(stem) :])}

    def weight(
        self,
        name: str,
        own: str,
        shape: Iterable[int],
        make: Callable[[], FlatTensor],
        parts: Iterable[str | None],
    ) -> Weight:
        """Return a weight that can be read; its parts are the tensor of codes and `parts` that are there."""
        stored = self.tensors[own]
        whole = frozenset({own, *(part for part in parts if part is not None and part in self.tensors)})
        return Weight(name, own, Stored(stored.dtype, tuple(shape), stored.path, scaled=True), make, whole)

    def refused(self, name: str, own: str, why: str, parts: Iterable[str | None] = ()) -> Weight:
        """Return a weight that cannot be read, with all its companions; `why` completes "... of dtype, "."""
        stored, around = self.tensors[own], self.companions(own)
        message = f"{stored.path}: {own} holds codes ({stored.dtype}): {why}; {ADVICE}"

        def make() -> FlatTensor:
            raise InputError(message, kind="quantization")

        return self.weight(name, own, stored.shape, make, {*parts, *around})

    def scheme(self, module: str) -> Mapping[str, Any]:
        """Return compressed-tensors' arguments for the weights of a module; empty where they are not certain.

        Raises
        ------
        NotCertain
            What says which modules they are of cannot be read.
        """
        groups = self.config.get("config_groups")
        if not isinstance(groups, Mapping):
            return {}
        by_class = []
        for group in groups.values():
            if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
                return {}
            weights: Mapping[str, Any] = group["weights"]
            targets = group.get("targets") or ()
            if not isinstance(targets, list | tuple) or not all(isinstance(each, str) for each in targets):
                raise NotCertain("targets in its configuration are no names")
            for target in targets:
                pattern = target.removeprefix("re:")
                if target == module or (target != pattern and _matches(pattern, module)):
                    return weights
                if target == pattern and "." not in target:
                    by_class.append(weights)
        return by_class[0] if by_class and all(each == by_class[0] for each in by_class) else {}


def split_name(name: str) -> tuple[str, str]:
    """Return the module of a tensor with the dot behind it, and the rest of the name."""
    stem, dot, leaf = name.rpartition(".")
    return stem + dot, leaf


def matrices(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return count, rows and columns of a matrix, or of a stack of matrices; None for any other shape."""
    if len(shape) not in (2, 3) or not math.prod(shape):
        return None
    return (1, *shape) if len(shape) == 2 else (shape[0], shape[1], shape[2])


def e8m0(codes: NDArray[Any]) -> NDArray[Any]:
    """Return the powers of two that bytes stand for; numbers that are powers already are returned as they are."""
    if codes.dtype != np.uint8:
        return codes
    powers = np.ldexp(np.ones(len(codes)), codes.astype(np.int64) - 127)
    powers[codes == 255] = np.nan
    return powers


def _matches(pattern: str, module: str) -> bool:
    """Test the beginning of a module's name, as compressed-tensors does. Raises NotCertain."""
    try:
        return compile_expression(pattern)(module)
    except re.error:
        raise NotCertain(f"the target re:{pattern[:40]} in its configuration is no regular expression") from None
    except NotPlainError as why:
        raise NotCertain(f"the target re:{pattern[:40]} in its configuration {why}") from None


def _optional(path: Path) -> dict[str, Any]:
    """Return a JSON object beside a file of weights; empty where there is none that can be read."""
    try:
        return read_config(path)
    except ToolError:
        return {}
