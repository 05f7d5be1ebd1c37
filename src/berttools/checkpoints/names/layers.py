"""Which layer of which stack a tensor belongs to, by its name: an encoder's layer 0 is no decoder's layer 0."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from berttools.checkpoints.names.wrappers import unwrapped

_LISTS = frozenset({"layer", "layers", "h", "block", "blocks", "resblocks", "albert_layers"})
# Lists of stages, each of which has a list of layers (Swin, ConvNeXt) or is one (Funnel and SegFormer: `blocks.0.1.`).
_STAGES = frozenset({"layers", "stages"})
_NUMBER = re.compile(r"[0-9]{1,6}")


class Located(NamedTuple):
    """A name taken apart at the number of its layer.

    Attributes
    ----------
    path
        What precedes the number: the name of the list of layers.
    layer
        The number.
    rest
        What follows it.
    """

    path: str
    layer: int
    rest: str


def locate(name: str) -> Located | None:
    """Return where the layer's number stands in a name, wrappers dropped; None where there is no such number."""
    parts = unwrapped(name).split(".")
    for at in range(1, len(parts) - 1):
        if not _NUMBER.fullmatch(parts[at]):
            continue
        if parts[at - 1] in _LISTS or parts[at - 1] in _STAGES:
            at = _inside_stage(parts, at)
            if parts[at - 1] != "stages":
                return Located(".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :]))
    return None


def _inside_stage(parts: Sequence[str], at: int) -> int:
    """Return where the number of a layer stands, given that of a stage; that one where it is a layer's itself."""
    following = [bool(_NUMBER.fullmatch(part)) for part in parts[at + 1 : -1]]
    if following[:1] == [True] and parts[at - 1] in ("block", "blocks"):
        return at + 1
    if following[1:2] == [True] and parts[at - 1] in _STAGES and parts[at + 1] in ("blocks", "layers"):
        return at + 2
    return at


def stack_names(paths: Iterable[str]) -> dict[str, str | None]:
    """Name the stacks of a model: the shortest beginnings that tell the lists of its layers apart.

    Parameters
    ----------
    paths
        As of `Located`, of all layers.

    Returns
    -------
    dict
        Path to name, without what all paths begin with; None for the only one.

    Examples
    --------
    >>> stack_names(["model.decoder.layers", "model.encoder.layers"])
    {'model.decoder.layers': 'decoder', 'model.encoder.layers': 'encoder'}
    """
    split = {path: path.strip("./").split(".") for path in paths}
    if len(split) < 2:
        return dict.fromkeys(split)
    common = 0
    while all(len(parts) > common + 1 and not parts[common + 1].isdigit() for parts in split.values()) and (
        len({parts[common] for parts in split.values()}) == 1
    ):
        common += 1
    return {path: _shortest(parts, [each for each in split.values() if each is not parts], common)
            for path, parts in split.items()}  # fmt: skip


def _shortest(parts: Sequence[str], others: Sequence[Sequence[str]], common: int) -> str:
    end = common + 1
    while end < len(parts) and any(other[:end] == parts[:end] for other in others):
        end += 1
    return ".".join(parts[common:end])


Row = int | tuple[str, int]
"""A layer: its number, with its stack where the model has several."""


def row_of(stack: str | None, layer: int) -> Row:
    """Return a layer as a row."""
    return layer if stack is None else (stack, layer)


def row_order(stack: str | None, layer: int | None) -> tuple[bool, bool, str, int]:
    """Return what layers are sorted by: encoders before decoders, then by stack and number, none last."""
    return layer is None, "decoder" in (stack or ""), stack or "", layer or 0
