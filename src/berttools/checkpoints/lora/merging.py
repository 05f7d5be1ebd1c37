"""Merge PEFT's LoRA adapters, from their folders or weights, into their base tensor by tensor.

The merged weight is W + s B A (arXiv 2106.09685, section 4.1) with s = alpha / r, or alpha / sqrt(r) where the
adapter was trained so (arXiv 2312.03732); W is the base without what the adapter's initialisation took off it. DoRA
brings each row of the sum, or column where matrices are stored as (in, out), to a length of its own (arXiv 2402.09353,
equation 5).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import InputError, ToolError, of_the_whole_run
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import Checkpoint, Source, Stored, open_checkpoint, read_config
from berttools.checkpoints.lora.contents import Contents, Factors, TokenRows, read_contents
from berttools.checkpoints.lora.initial import initial_product
from berttools.checkpoints.lora.layout import is_transposed, layers_that_transpose
from berttools.checkpoints.lora.settings import Initial, LoraSettings, read_settings
from berttools.checkpoints.names import AmbiguousNamesError, align_names
from berttools.checkpoints.tied import tied_tensors
from berttools.checkpoints.views import MergedTensor, ReplacedRowsTensor, RescaledTensor

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_FLOATS = {"F64", "F32", "F16", "BF16"}
# Values of a block of rows: 8 MB in float64.
_BLOCK_VALUES = 1 << 20

Matrix = NDArray[np.float64]


def open_tuned(path: str | os.PathLike[str], base: Checkpoint, *, strip: Sequence[str] = ()) -> Checkpoint:
    """Open a fine-tuned model: whole, or a LoRA adapter of `base`.

    Parameters
    ----------
    path
        As `berttools.checkpoints.files.open_checkpoint`, or the folder of an adapter or its weights.
    strip
        Prefixes to take off the names of an adapter and of its base where they are matched.

    Returns
    -------
    Checkpoint
        Of an adapter, all of `base` under its own names: merged where the adapter has factors, replaced where it
        has the whole tensor (``modules_to_save``), or some of its rows (``trainable_token_indices``). A tensor
        raises an `InputError` of kind ``"adapter"`` when it is read if its base does not determine what the adapter's
        initialisation took off.

    Raises
    ------
    ToolError
        As `open_checkpoint`; and kind ``"adapter"``: another kind of adapter, one that cannot be merged here, or of
        another model; ``"ambiguous"``: it fits two parts of the base equally well.
    """
    path = Path(path)
    if path.name in _WEIGHTS:
        return _merge(path.parent, base, strip)
    try:
        return open_checkpoint(path)
    except ToolError as error:
        if error.kind != "adapter":
            raise
    return _merge(path, base, strip)


class _Change(NamedTuple):
    """What changes a weight of the base.

    Attributes
    ----------
    transposed
        The model stores the matrix as (in, out), or it is the table of an embedding.
    initial
        What is taken off the base first.
    stored
        The header of what the factors are merged into.
    under
        The name of that in the adapter's file; None for the base's own tensor.
    """

    factors: Factors
    transposed: bool
    initial: Initial
    stored: Stored
    under: str | None


class _Adapter:
    """The changed tensors, by the names of the base."""

    def __init__(self, base: Checkpoint, weights: Checkpoint) -> None:
        self._base, self._weights = base, weights
        self.changes: dict[str, _Change] = {}
        self.biases: dict[str, Factors] = {}
        self.rows: dict[str, TokenRows] = {}
        # Some tensors are worked on at a time; all factors at once may be as large as a model.
        self._product = lru_cache(maxsize=4)(self._read_product)
        self._scales = lru_cache(maxsize=4)(self._read_scales)

    def stored(self) -> dict[str, Stored]:
        """Return the headers of the changed tensors."""
        unchanged = {name: self._base.tensors[name] for name in (*self.biases, *self.rows)}
        return unchanged | {name: change.stored for name, change in self.changes.items()}

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order. Raises as `Checkpoint.flat`."""
        if name in self.biases:
            return MergedTensor(self._base.flat(name), 1, partial(self._added_bias, name))
        if name in self.rows:
            values, rows = self.rows[name]
            columns = self._base.tensors[name].shape[1]
            return ReplacedRowsTensor(self._base.flat(name), columns, rows, self._weights.flat(values))
        change, merged = self.changes[name], self._sum(name)
        if change.factors.magnitude is None:
            return merged
        return RescaledTensor(merged, change.stored.shape[1], partial(self._scales, name))

    def _under(self, name: str) -> FlatTensor:
        under = self.changes[name].under
        return self._base.flat(name) if under is None else self._weights.flat(under)

    def _sum(self, name: str) -> MergedTensor:
        change = self.changes[name]
        return MergedTensor(
            self._under(name),
            change.stored.shape[1],
            partial(self._product, name),
            decomposes=change.initial != Initial.nothing,
        )

    def _read_product(self, name: str) -> tuple[Matrix, Matrix]:
        factors = self.changes[name].factors
        a, b = self._values(factors.a), self._values(factors.b)
        if factors.diagonal is not None:
            b = b * self._values(factors.diagonal).reshape(-1)
        left, right = (a.T, b.T) if self.changes[name].transposed else (b, a)
        left = left * factors.scale
        taken_off = self._taken_off(name)
        if taken_off is not None:
            left, right = np.hstack([left, -taken_off[0]]), np.vstack([right, taken_off[1]])
        return np.ascontiguousarray(left), np.ascontiguousarray(right)

    def _taken_off(self, name: str) -> tuple[Matrix, Matrix] | None:
        change = self.changes[name]
        if change.initial == Initial.nothing:
            return None
        flat, stored = self._under(name), change.stored
        weight = flat.values(0, stored.size).reshape(stored.shape)
        try:
            return initial_product(weight, change.factors.rank, change.initial, change.factors.scale)
        except InputError as error:
            raise InputError(
                f"{self._base.path}: {name}: {error.message}; merge the adapter with PEFT and give that",
                kind=error.kind,
            ) from None
        finally:
            flat.release(0, stored.size)

    def _read_scales(self, name: str) -> Matrix:
        """Return what the merged rows are multiplied by, shape (rows, 1), or the columns, shape (1, columns)."""
        change, merged = self.changes[name], self._sum(name)
        rows, columns = change.stored.shape
        squares = np.zeros((1, columns) if change.transposed else (rows, 1))
        step = max(1, _BLOCK_VALUES // columns)
        for first in range(0, rows, step):
            last = min(first + step, rows)
            block = np.square(merged.rows(first, last))
            merged.release(first * columns, last * columns)
            if change.transposed:
                squares += block.sum(axis=0)
            else:
                squares[first:last] = block.sum(axis=1, keepdims=True)
        lengths = self._values(change.factors.magnitude or "").reshape(squares.shape)
        with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros becomes NaN, as in PEFT
            scales: Matrix = lengths / np.sqrt(squares)
        return scales

    def _added_bias(self, name: str) -> tuple[Matrix, Matrix]:
        factors = self.biases[name]
        return self._values(factors.bias or "").reshape(-1, 1) * factors.scale, np.ones((1, 1))

    def _values(self, name: str) -> Matrix:
        stored = self._weights.tensors[name]
        return self._weights.flat(name).values(0, stored.size).astype(np.float64).reshape(stored.shape)


class _Renamed(NamedTuple):
    """One tensor of a source under another name."""

    source: Source
    own_name: str

    def flat(self, _: str) -> FlatTensor:
        """Return the tensor as flat values in C order."""
        return self.source.flat(self.own_name)


def _merge(folder: Path, base: Checkpoint, strip: Sequence[str]) -> Checkpoint:
    settings = read_settings(folder, read_config(folder / "adapter_config.json"))
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise ToolError(f"{folder}: no {_WEIGHTS[0]} in it; copy it there", kind="adapter")
    with of_the_whole_run():
        weights = open_checkpoint(file)
        contents = read_contents(file, weights, settings)
    names = _align(file, base, weights, contents, strip)
    sources: dict[str, tuple[Stored, Source]] = {name: (stored, base) for name, stored in base.tensors.items()}
    for own, key in contents.whole.items():
        if own not in contents.factors:
            sources[names[own]] = (weights.tensors[key], _Renamed(weights, key))
    adapter = _Adapter(base, weights)
    layers = layers_that_transpose(base)
    for own, factors in contents.factors.items():
        under = contents.whole.get(own)
        stored = base.tensors[names[own]] if under is None else weights.tensors[under]
        transposed = is_transposed(file, base, names[own], stored.shape, factors, layers, flag=settings.transposed)
        initial = Initial.nothing if under else _initial(file, names[own], stored, factors, transposed, settings)
        adapter.changes[names[own]] = _Change(factors, transposed, initial, stored, under)
        if factors.bias is not None:
            adapter.biases[names[_bias_of(own)]] = factors
    for own, rows in contents.rows.items():
        _check_rows(file, names[own], base, weights, rows)
        adapter.rows[names[own]] = rows
    for name, stored in adapter.stored().items():
        sources[name] = (stored._replace(path=file), adapter)
    _change_tied(file, base, sources, adapter.stored().keys())
    return Checkpoint(folder, sources, base.config)


def _bias_of(weight: str) -> str:
    return f"{weight.rpartition('.')[0]}.bias"


def _align(
    file: Path, base: Checkpoint, weights: Checkpoint, contents: Contents, strip: Sequence[str]
) -> dict[str, str]:
    """Map the names of what an adapter changes or adds to those of the model."""
    shapes: dict[str, tuple[int, ...]] = {name: weights.tensors[key].shape for name, key in contents.whole.items()}
    shapes |= {name: weights.tensors[rows.values].shape for name, rows in contents.rows.items()}
    added = {_bias_of(name): factors.shape[:1] for name, factors in contents.factors.items() if factors.bias}
    shapes |= {name: factors.shape for name, factors in contents.factors.items()}
    shapes |= added
    try:
        names = align_names({name: stored.shape for name, stored in base.tensors.items()}, shapes, strip=strip)
    except AmbiguousNamesError as error:
        raise error.of(file) from None
    lost = next((name for name in names.only_ft if name not in contents.whole or name in contents.factors), None)
    if lost is not None:
        raise ToolError(
            f"{file}: adapts {lost}, which {base.path} lacks; give the adapter's own base, or merge it with PEFT and"
            " give that",
            kind="adapter",
        )
    return {own: name for name, own in names.pairs.items()} | {name: name for name in names.only_ft}


def _initial(
    file: Path, name: str, stored: Stored, factors: Factors, transposed: bool, settings: LoraSettings
) -> Initial:
    """Return what PEFT takes off a base weight: nothing off embeddings; refuse what it does not initialise so."""
    initial = settings.initial
    if initial == Initial.nothing or factors.embedding:
        return Initial.nothing
    if factors.parameter or (initial == Initial.minor and transposed):
        raise ToolError(
            f"{file}: {initial.value} of {name}, which is no linear layer; merge it with PEFT and give that",
            kind="adapter",
        )
    if stored.dtype not in _FLOATS or stored.scaled:
        raise ToolError(
            f"{file}: {initial.value} takes a part off {name}, which is {stored.dtype} in {stored.path}; give the base"
            " that is not quantised",
            kind="adapter",
        )
    if initial == Initial.principal and factors.scale <= 0:
        raise ToolError(
            f"{file}: {initial.value} with lora_alpha {factors.scale:g} or less; copy it again", kind="adapter"
        )
    return initial


def _check_rows(file: Path, name: str, base: Checkpoint, weights: Checkpoint, rows: TokenRows) -> None:
    shape, own = base.tensors[name].shape, weights.tensors[rows.values].shape
    if len(shape) != 2 or own[1] != shape[1] or max(rows.rows) >= shape[0]:
        raise ToolError(
            f"{file}: has rows up to {max(rows.rows)} of {name} with {own[1]} columns, but it is {shape}; give the"
            " adapter's own base",
            kind="adapter",
        )


def _change_tied(
    file: Path, base: Checkpoint, sources: dict[str, tuple[Stored, Source]], changed: Collection[str]
) -> None:
    """Change both of two tied tensors of a base: PEFT merges into the one that they are in memory."""
    outside = [name for name in changed if not any(map(str.isdigit, name.split(".")))]
    if not outside or base.config.get("tie_word_embeddings") is False:
        return
    for pair in tied_tensors(base).items():
        ours = [name for name in pair if name in changed]
        if len(ours) == 2:
            raise ToolError(
                f"{file}: adapts both {pair[0]} and {pair[1]}, which are one in {base.path}; merge it with PEFT and"
                " give that",
                kind="adapter",
            )
        for name in ours:
            stored, source = sources[name]
            sources[pair[1] if name == pair[0] else pair[0]] = (stored, _Renamed(source, name))
