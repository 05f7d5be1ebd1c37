"""Replace linear layers of a model by masked ones, and masked ones by linear layers without the zeroed weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
        own, shape = model.get_submodule(place), tuple(model.get_parameter(name).shape)
        transposed = not isinstance(own, nn.Linear)
        layer = own if isinstance(own, nn.Linear) else _as_linear(own)
        heads = _head_size(name, shape, layer, recipe.pattern, config)
        masked = MaskedLinear(layer, recipe, draws, index, heads, transposed=transposed)
        parent, _, leaf = place.rpartition(".")
        setattr(model.get_submodule(parent), leaf, masked)
        scores[name] = f"{place}.scores"
    return scores


@torch.no_grad()
def _as_linear(layer: nn.Module) -> nn.Linear:
    """Return a Conv1D of transformers, which stores its matrix as [inputs, outputs], as a linear layer."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    inputs, outputs = weight.shape
    linear = nn.Linear(inputs, outputs, device="meta")
    linear.weight = nn.Parameter(weight.T.contiguous(), requires_grad=False)
    linear.bias = bias
    return linear


def _as_conv1d(layer: nn.Linear) -> nn.Module:
    """Return a linear layer as a Conv1D."""
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):  # which draws nothing from a generator
        found: nn.Module = Conv1D(layer.out_features, layer.in_features)  # type: ignore[no-untyped-call]
    found.weight = nn.Parameter(layer.weight.T.contiguous(), requires_grad=False)
    found.bias = layer.bias
    return found


def _head_size(name: str, shape: tuple[int, ...], layer: nn.Linear, pattern: Pattern, config: Any) -> int:
    """Return the ``heads`` of a layer's ``MaskedLinear``; ToolError if the pattern does not fit the matrix.

    ``shape`` is that of the model's own matrix, which may be stored as [inputs, outputs].
    """
    from berttools.checkpoints.groups import layer_and_group

    rows, columns = (int(side) for side in layer.weight.shape)
    group = layer_and_group(name, shape).group
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
    """Replace masked layers by those of before, whose zeroed weights are +0.0.

    Parameters
    ----------
    model
        As ``mask_model`` has left it, in eval mode; changed in place.
    scores
        What ``mask_model`` has returned.

    Returns
    -------
    dict
        Each matrix's name to its mask, bool, of the matrix's shape: [outputs, inputs], or [inputs, outputs] where it
        is stored so; true for weights that stay.
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
        if masked.transposed:
            keep = keep.T.contiguous()
        parent, _, leaf = place.rpartition(".")
        setattr(model.get_submodule(parent), leaf, _as_conv1d(layer) if masked.transposed else layer)
        keeps[name] = keep.cpu().numpy()
    return keeps


def stored_transposed(model: nn.Module, scores: Mapping[str, str]) -> list[str]:
    """Return the names of masked matrices that the model stores as [inputs, outputs], sorted."""
    return sorted(name for name in scores if getattr(model.get_submodule(name.rpartition(".")[0]), "transposed", False))


def can_mask(model: nn.Module, name: str) -> bool:
    """Test whether a parameter is the matrix of a linear layer, or of GPT-2's Conv1D, which is one."""
    from transformers.pytorch_utils import Conv1D

    place, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(place), nn.Linear | Conv1D)
