"""Read the quantized weights of a checkpoint as weights, and refuse those that cannot be read for certain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from berttools.checkpoints.files import Checkpoint, Source, Stored
from berttools.checkpoints.quantized.bitsandbytes import find_bitsandbytes
from berttools.checkpoints.quantized.layout import Layout, Weight, split_name
from berttools.checkpoints.quantized.packed import find_packed
from berttools.checkpoints.quantized.scaled import find_scaled
from berttools.checkpoints.quantized.torchao import find_torchao
from berttools.checkpoints.quantized.transposed import find_transposed

_READERS: tuple[Callable[[Layout], Iterator[Weight]], ...] = (
    find_torchao,
    find_bitsandbytes,
    find_transposed,
    find_packed,
    find_scaled,
)
_LOW = re.compile(r"[IU][1-8]|F4|F[468]_.*|torch\.(?:u?int[1-7]|float[48].*|quint.*|qint.*)")
# What packed weights are called by libraries whose tensors are not read: HQQ, AQLM, SpQR, EETQ, quanto's few bits.
_PACKED = re.compile(r"W_q|codes|qweight|\w+_(?:packed|blocks|qdata)|compressed|_data")


def with_scales(model: Checkpoint) -> Checkpoint:
    """Return a model whose quantized weights are read as weights; what they are made of are no tensors of it any more.

    A model without such weights is returned as it is; low-bit numbers beside which nothing stands stay numbers. A
    weight that cannot be read for certain is a tensor whose `Checkpoint.flat` raises an InputError of kind
    ``"quantization"`` that names what stands beside it.

    Raises
    ------
    ToolError
        Kind ``"quantization"``: the configuration names a method that is not read.
    """
    layout = Layout(model)
    known = layout.refuse_unknown_methods()
    weights: dict[str, Weight] = {}
    taken: set[str] = set()
    for weight in chain(*(reader(layout) for reader in _READERS if known)):
        if weight.own not in taken:
            weights[weight.name] = _checked(layout, weight)
            taken |= weights[weight.name].parts
    for weight in _unrecognised(layout, taken):
        weights[weight.name] = weight
        taken |= weight.parts
    if not weights:
        return model
    taken |= {each for weight in weights.values() for each in layout.activations(weight.name)}
    sources: dict[str, tuple[Stored, Source]] = {
        name: (stored, model) for name, stored in model.tensors.items() if name not in taken
    }
    sources |= {name: (weight.stored, weight) for name, weight in weights.items()}
    return Checkpoint(model.path, sources, model.config)


def _checked(layout: Layout, weight: Weight) -> Weight:
    """Return a weight; refused, if more stands beside its codes than what it is made of, or its name is taken."""
    more = sorted(layout.companions(weight.own) - weight.parts)
    if more:
        return layout.refused(weight.name, weight.own, _unknown(more), weight.parts)
    if weight.name != weight.own and weight.name in layout.tensors:
        return layout.refused(weight.name, weight.own, f"{weight.name} is there too", [*weight.parts, weight.name])
    return weight


def _unrecognised(layout: Layout, taken: AbstractSet[str]) -> Iterator[Weight]:
    """Yield what looks like codes that no reader knows: low-bit numbers with companions, or by their own name."""
    owners = [name for name in layout.tensors if name not in taken and _is_code(layout, name)]
    companions = {name: layout.companions(name) - taken for name in owners}
    others = set().union(*companions.values())
    for own in owners:
        stem, leaf = split_name(own)
        packed, around = _PACKED.fullmatch(leaf), sorted(companions[own])
        if own in others and leaf != "weight" and not packed:  # a scale of 8 bits, beside codes of 8 bits
            continue
        if around:
            yield layout.refused(_plain(stem, leaf), own, _unknown(around), around)
        elif packed:
            yield layout.refused(_plain(stem, leaf), own, "what says how to read them is missing")
        elif layout.method is not None and leaf == "weight" and len(layout.tensors[own].shape) > 1:
            yield layout.refused(own, own, f"no scale of {layout.method}'s stands beside it")


def _unknown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"with {', '.join(names[:3])}{more} beside it, of no known format"


def _is_code(layout: Layout, name: str) -> bool:
    """Test for numbers of few bits, for a name that only packed ones have, and for codes that are stored as floats."""
    stored, (stem, leaf) = layout.tensors[name], split_name(name)
    if stored.scaled or not stored.shape:
        return False
    if _LOW.fullmatch(stored.dtype) or leaf == "W_q":
        return True
    if stored.dtype.startswith("I") and _PACKED.fullmatch(leaf):
        return True
    beside = [f"{name}.absmax", f"{name}.quant_map"]
    if leaf == "weight":
        beside += [f"{stem}weights_scaling_factor", f"{stem}prequant_scaling_factor"]
    return any(each in layout.tensors for each in beside)


def _plain(stem: str, leaf: str) -> str:
    """Return the name that the weight has in a model that is not quantized."""
    if leaf in ("W_q", "codes", "qweight", "compressed"):
        return f"{stem}weight"
    if leaf == "_data":
        return stem.removesuffix(".").removesuffix("._data")
    for ending in ("_packed", "_blocks", "_qdata"):
        if leaf.endswith(ending):
            return stem + leaf.removesuffix(ending).removeprefix("_")
    return stem + leaf
