"""Tell how a model stores the matrix of a layer: as (out, in), or transposed as GPT-2 does.

PEFT knows by the type of the layer. Files have shapes only: of a square matrix, the layers of its kind that are not
square say it by their biases, which are as long as the output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from _toolio.errors import ToolError
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.lora.contents import Factors

Layers = Mapping[str, set[bool]]
"""The last part of a layer's name, or "" for all: whether its matrices are stored transposed."""


def layers_that_transpose(base: Checkpoint) -> Layers:
    """Return what the layers of a model that are not square say."""
    found: dict[str, set[bool]] = defaultdict(set)
    for name, stored in base.tensors.items():
        layer, _, last = name.rpartition(".")
        bias = base.tensors.get(f"{layer}.bias")
        if last != "weight" or bias is None or len(stored.shape) != 2 or stored.shape[0] == stored.shape[1]:
            continue
        for kind in (layer.rpartition(".")[2], ""):
            if bias.shape in ((stored.shape[0],), (stored.shape[1],)):
                found[kind].add(bias.shape == (stored.shape[1],))
    return found


def is_transposed(
    file: Path, base: Checkpoint, name: str, shape: tuple[int, ...], factors: Factors, layers: Layers, *, flag: bool
) -> bool:
    """Test whether the model stores the product of two factors transposed: as (in, out), or as an embedding.

    Parameters
    ----------
    file
        The adapter's, for messages.
    name, shape
        Of the weight.
    layers
        As of `layers_that_transpose`.
    flag
        What the adapter says (``fan_in_fan_out``): it decides where nothing else does.

    Raises
    ------
    ToolError
        Kind ``"adapter"``: the product has another shape.
    """
    if len(shape) != 2:
        raise ToolError(
            f"{file}: adapts {name}, which has {len(shape)} dimensions; merge it with PEFT and give that",
            kind="adapter",
        )
    if shape == factors.shape and (factors.embedding or factors.parameter):
        return factors.embedding
    if shape == factors.shape:
        return shape[0] == shape[1] and _square_is_transposed(base, name, layers, flag=flag)
    if shape == factors.shape[::-1] and not (factors.embedding or factors.parameter):
        return True
    raise ToolError(
        f"{file}: adapts {name} as {factors.shape}, but it is {shape}; give the adapter's own base", kind="adapter"
    )


def _square_is_transposed(base: Checkpoint, name: str, layers: Layers, *, flag: bool) -> bool:
    layer = name.rpartition(".")[0]
    if f"{layer}.bias" not in base.tensors:
        return False  # layers that store it transposed have one
    said = layers.get(layer.rpartition(".")[2]) or layers.get("", set())
    return said == {True} if len(said) == 1 else flag
