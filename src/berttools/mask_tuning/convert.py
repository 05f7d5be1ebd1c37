"""Replace linear layers of a model by masked ones, and masked ones by linear layers without the zeroed weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from _toolio.errors import ToolError, param
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.mask_tuning.recipe import Pattern, Recipe


def mask_model(model: nn.Module, names: Iterable[str], recipe: Recipe, draws: Draws) -> dict[str, str]:
    """Replace linear layers by masked ones.

    Parameters
    ----------
    model
        A transformers model; changed in place.
    names
        The matrices to mask, such as ``bert.encoder.layer.0.attention.self.query.weight``.
    recipe, draws
        As of ``MaskedLinear``.

    Returns
    -------
    dict
        Each matrix's name to that of its scores.

    Raises
    ------
    ToolError
        If a matrix is of no linear layer, or the pattern does not fit it.
    """
    scores = {}
    config = getattr(model, "config", None)
    for index, name in enumerate(names):
        place = name.rpartition(".")[0]
        if not can_mask(model, name):
            raise ToolError(f"{name}: is not the matrix of a linear layer; leave it out", kind="not-linear")
        layer = cast(nn.Linear, model.get_submodule(place))
        masked = MaskedLinear(layer, recipe, draws, index, _head_size(name, layer, recipe.pattern, config))
        parent, _, own = place.rpartition(".")
        setattr(model.get_submodule(parent), own, masked)
        scores[name] = f"{place}.scores"
    return scores


def _head_size(name: str, layer: nn.Linear, pattern: Pattern, config: Any) -> int:
    """Return the ``heads`` of a layer's ``MaskedLinear``; ToolError if the pattern does not fit the matrix."""
    from berttools.checkpoints.groups import layer_and_group

    rows, columns = (int(side) for side in layer.weight.shape)
    group = layer_and_group(name, (rows, columns)).group
    if pattern is Pattern.two_of_four and columns % 4:
        raise ToolError(f"{param('pattern')} 2:4: the rows of {name} are no multiple of 4", kind="bad-pattern")
    if pattern is not Pattern.head:
        return 1
    heads: int | None = getattr(config, "num_attention_heads", None)
    if group in ("K", "V"):  # grouped-query attention shares them among heads
        heads = getattr(config, "num_key_value_heads", None) or heads
    if group not in ("Q", "K", "V", "AO") or not heads or (columns if group == "AO" else rows) % heads:
        raise ToolError(
            f"{param('pattern')} head: {name} does not belong to attention heads; give {param('group')} Q,K,V,AO",
            kind="bad-pattern",
        )
    return -columns // heads if group == "AO" else rows // heads


@torch.no_grad()
def unmask_model(model: nn.Module, scores: Mapping[str, str]) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Replace masked layers by linear ones, whose zeroed weights are +0.0.

    Parameters
    ----------
    model
        As ``mask_model`` has left it, in eval mode; changed in place.
    scores
        What ``mask_model`` has returned.

    Returns
    -------
    dict
        Each matrix's name to its mask, bool [outputs, inputs]; true for weights that stay.
    """
    keeps = {}
    for name in scores:
        place = name.rpartition(".")[0]
        masked = model.get_submodule(place)
        assert isinstance(masked, MaskedLinear)
        keep = masked.keep()
        outputs, inputs = masked.weight.shape
        layer = nn.Linear(inputs, outputs, bias=masked.bias is not None, device="meta")
        layer.weight = nn.Parameter(masked.masked(keep), requires_grad=False)
        layer.bias = masked.bias
        parent, _, own = place.rpartition(".")
        setattr(model.get_submodule(parent), own, layer)
        keeps[name] = keep.cpu().numpy()
    return keeps


def can_mask(model: nn.Module, name: str) -> bool:
    """Test whether a parameter is the matrix of a linear layer."""
    place, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(place), nn.Linear)
