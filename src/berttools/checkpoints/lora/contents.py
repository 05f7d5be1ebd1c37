"""Sort the tensors of a LoRA adapter's file by the tensors of the model that they change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from _toolio.errors import ToolError
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.lora.settings import Initial, LoraSettings

# PEFT puts the adapter's name behind these in memory, and in files of older versions.
_ADAPTER = r"(?:\.(?!weight$|bias$)\w+)?"
_PARTS = tuple(
    re.compile(rf"(?P<module>.+)\.{tensor}")
    for tensor in (
        rf"lora_(?P<part>(?:embedding_)?[AB]){_ADAPTER}(?:\.weight)?",
        rf"lora_B{_ADAPTER}\.(?P<part>bias)",
        rf"lora_(?P<part>magnitude_vector){_ADAPTER}(?:\.weight)?",
        rf"lora_(?P<part>diag){_ADAPTER}",
        rf"token_adapter\.(?P<part>trainable_tokens_delta){_ADAPTER}",
    )
)
_WHOLE = re.compile(r"(.+?)(?:\.modules_to_save(?:\.\w+)?|\.base_layer)?\.(weight|bias)")
# What puts these beside factors.
_OPTIONS = {"bias": "lora_bias", "magnitude_vector": "use_dora", "diag": "kasa_config"}
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


class Factors(NamedTuple):
    """What a weight is merged with.

    Attributes
    ----------
    a, b
        The names of the factors in the adapter's file, of shapes (rank, columns) and (rows, rank).
    embedding
        They are of an embedding: their product is its table transposed.
    parameter
        They are of a parameter itself, not of a layer.
    magnitude
        The name of the lengths of the merged weight's rows: DoRA.
    diagonal
        The name of what is between the factors: KaSA.
    bias
        The name of what is added to the layer's bias.
    shape
        Of the weight of a layer that stores it as (out, in), or of the table of an embedding.
    scale
        What the product is multiplied by.
    """

    a: str
    b: str
    embedding: bool
    parameter: bool
    magnitude: str | None
    diagonal: str | None
    bias: str | None
    shape: tuple[int, int]
    rank: int
    scale: float


class TokenRows(NamedTuple):
    """Rows of an embedding that were trained by themselves: the name of their values, and which they are."""

    values: str
    rows: Sequence[int]


class Contents(NamedTuple):
    """The tensors of an adapter, by the names of the model's tensors that they change."""

    factors: dict[str, Factors]
    rows: dict[str, TokenRows]
    whole: dict[str, str]
    """Name in the file. One of a name in `factors` is what these are merged into."""


def read_contents(file: Path, weights: Checkpoint, settings: LoraSettings) -> Contents:
    """Sort the tensors of an adapter's file.

    Raises
    ------
    ToolError
        Kind ``"adapter"``: the file holds what the settings do not account for, or lacks what they ask for.
    """
    modules: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for key in weights.tensors:
        bare = key.removeprefix("base_model.model.")
        if any(f".{ignored}" in bare for ignored in settings.ignored):
            continue
        if found := next((found for part in _PARTS if (found := part.fullmatch(bare))), None):
            modules.setdefault(found["module"], {})[found["part"]] = key
        elif ".lora_" not in bare and ".token_adapter." not in bare and (found := _WHOLE.fullmatch(bare)):
            whole[f"{found[1]}.{found[2]}"] = key
        else:
            raise _no_plain_lora(file, key)
    if not modules and not whole:
        raise ToolError(f"{file}: no tensors in it; copy it again", kind="adapter")
    reader = _Reader(file, weights, settings)
    contents = Contents({}, {}, whole)
    for module, parts in modules.items():
        if "trainable_tokens_delta" in parts:
            contents.rows[f"{module}.weight"] = reader.rows(module, parts)
        else:
            parameter = reader.parameter(module)
            contents.factors[f"{module}.{parameter or 'weight'}"] = reader.factors(module, parameter, parts)
    return contents


def _no_plain_lora(file: Path, key: str) -> ToolError:
    return ToolError(f"{file}: holds {key}, which is no plain LoRA; merge it with PEFT", kind="adapter")


class _Reader(NamedTuple):
    file: Path
    weights: Checkpoint
    settings: LoraSettings

    def parameter(self, module: str) -> str | None:
        """Return the name of the parameter that a module's factors are of; None if they are of its layer."""
        ends = self.settings.parameters
        if ends and ".base_layer" in module:  # PEFT nests the factors of a module's parameters
            bare = module.replace(".base_layer", "")
            raise ToolError(
                f"{self.file}: factors of two parameters of {bare}; merge it with PEFT and give that", kind="adapter"
            )
        names = {end.rpartition(".")[2] for end in ends}
        return next(
            (name for name in sorted(names) if any(f".{module}.{name}".endswith(f".{end}") for end in ends)), None
        )

    def factors(self, module: str, parameter: str | None, parts: Mapping[str, str]) -> Factors:
        embedding = "embedding_A" in parts
        pair = ("embedding_A", "embedding_B") if embedding else ("A", "B")
        self._check_parts(module, parts, pair)
        a, b = (self._matrix(parts[part]) for part in pair)
        if a[0] != b[1]:
            raise ToolError(
                f"{self.file}: {parts[pair[0]]} and {parts[pair[1]]} are no factors of a matrix", kind="adapter"
            )
        name = f"{module}.{parameter}" if parameter else module
        rank = a[0]
        if rank != (self.settings.rank_of(name) or rank):
            raise ToolError(
                f"{self.file}: the factors of {name} have rank {rank}, and its adapter_config.json says"
                f" {self.settings.rank_of(name)}; copy both again",
                kind="adapter",
            )
        return Factors(
            a=parts[pair[0]],
            b=parts[pair[1]],
            embedding=embedding,
            parameter=parameter is not None,
            magnitude=self._vector(parts, "magnitude_vector", b[0]),
            diagonal=self._vector(parts, "diag", rank),
            bias=self._vector(parts, "bias", b[0]),
            shape=(a[1], b[0]) if embedding else (b[0], a[1]),
            rank=rank,
            scale=self.settings.scale(name, rank),
        )

    def _check_parts(self, module: str, parts: Mapping[str, str], pair: tuple[str, str]) -> None:
        settings = self.settings
        wanted = {
            "bias": settings.bias,
            "magnitude_vector": settings.dora,
            "diag": settings.initial == Initial.minor,
        }
        known = {*pair, *(part for part, option in wanted.items() if option)}
        for part, key in parts.items():
            if part not in known:
                raise _no_plain_lora(self.file, key)
        for part in pair:
            if part not in parts:
                raise ToolError(f"{self.file}: only one of the two factors of {module}; copy it again", kind="adapter")
        for part, option in _OPTIONS.items():
            if wanted[part] and part not in parts:
                raise ToolError(
                    f"{self.file}: LoRA with {option}, but no {part} of {module} in it; copy it again", kind="adapter"
                )

    def _matrix(self, key: str) -> tuple[int, int]:
        stored = self.weights.tensors[key]
        if stored.dtype not in _FLOATS:
            raise ToolError(f"{self.file}: {key} holds {stored.dtype}, no weights; merge it with PEFT", kind="adapter")
        if len(stored.shape) != 2 or not stored.size:
            shape = list(stored.shape)
            raise ToolError(
                f"{self.file}: {key} is {shape}, so these are no factors of a matrix; save it whole, or merge it with"
                " PEFT",
                kind="adapter",
            )
        return stored.shape[0], stored.shape[1]

    def _vector(self, parts: Mapping[str, str], part: str, size: int) -> str | None:
        if part not in parts:
            return None
        stored = self.weights.tensors[parts[part]]
        # Older files hold DoRA's lengths as (size, 1) or (1, size).
        if stored.size != size or max(stored.shape, default=1) != size or stored.dtype not in _FLOATS:
            raise ToolError(
                f"{self.file}: {parts[part]} is {list(stored.shape)} of {stored.dtype}, where {size} numbers belong;"
                " merge it with PEFT",
                kind="adapter",
            )
        return parts[part]

    def rows(self, module: str, parts: Mapping[str, str]) -> TokenRows:
        key = parts["trainable_tokens_delta"]
        rows = self.settings.rows_of(module)
        if not rows or len(parts) > 1:
            raise _no_plain_lora(self.file, key)
        shape = self._matrix(key)
        if shape[0] != len(rows) or len(set(rows)) < len(rows) or min(rows) < 0:
            raise ToolError(
                f"{self.file}: {key} has {shape[0]} rows, and trainable_token_indices says {len(rows)}, each once;"
                " copy both again",
                kind="adapter",
            )
        return TokenRows(key, rows)
