"""Read the size of networks from state dicts, and load state dicts exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


def prefix_of(state: Mapping[str, Tensor], anchor: str) -> str | None:
    """Return what precedes a name that every network of a kind has; None unless the name occurs exactly once."""
    found = [key for key in state if f".{key}".endswith(f".{anchor}")]
    return found[0].removesuffix(anchor) if len(found) == 1 else None


def beneath(state: Mapping[str, Tensor], anchor: str) -> dict[str, Tensor]:
    """Return the tensors of one network, without what precedes its own names.

    Parameters
    ----------
    state
        Tensors by name; a training's checkpoint may hold more than the network, such as a classifier.
    anchor
        A name that every such network has.

    Returns
    -------
    dict
        ``features.module.conv1.weight`` becomes ``conv1.weight`` for the anchor ``conv1.weight``, and what lies
        outside ``features.module.`` is dropped. Unless the anchor occurs exactly once, everything stays as it is,
        less the counters of batch normalisation.
    """
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    prefix = prefix_of(kept, anchor) or ""
    return {key.removeprefix(prefix): value for key, value in kept.items() if key.startswith(prefix)}


def with_identity(state: Mapping[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Add a scale of 1 and a shift of 0 to a batch normalisation that was trained without them."""
    mean = state.get(f"{norm}.running_mean")
    if mean is None or f"{norm}.weight" in state or f"{norm}.bias" in state:
        return dict(state)
    return {**state, f"{norm}.weight": torch.ones_like(mean), f"{norm}.bias": torch.zeros_like(mean)}


def shape_of(state: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    """Return a required tensor's shape; ValueError if it is missing, empty or has another number of axes."""
    if key not in state:
        raise ValueError(f"missing {key}")
    shape = tuple(state[key].shape)
    if len(shape) != axes:
        raise ValueError(f"{key} is {shape}, which are not {axes} axes")
    if 0 in shape:
        raise ValueError(f"{key} is {shape}, which holds nothing")
    return shape


def count_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the different numbers that follow a prefix in names; ValueError if there are none."""
    # Counting, not the highest: a damaged name must not build a million blocks.
    numbers = {found[1] for key in state if (found := re.match(rf"{re.escape(prefix)}(\d+)\.", key))}
    if not numbers:
        raise ValueError(f"missing {prefix}0 and what follows it")
    return len(numbers)


def stages_of(state: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Return depths and widths of a ResNet's four stages.

    Returns
    -------
    depths, widths
        Blocks of ``layer1`` to ``layer4``; channels of the stem ``conv1``, then of each stage's first ``conv2``.

    Raises
    ------
    ValueError
        One of them is missing.
    """
    depths = [count_of(state, f"layer{stage}.") for stage in range(1, 5)]
    widths = [shape_of(state, f"layer{stage}.0.conv2.weight", 4)[0] for stage in range(1, 5)]
    return depths, [shape_of(state, "conv1.weight", 4)[0], *widths]


def flat(x: Tensor, linear: nn.Linear) -> Tensor:
    """Flatten maps [B, C, H, W] to [B, C * H * W]; ValueError if the linear layer takes another width."""
    if x[0].numel() != linear.in_features:
        raise ValueError(
            f"the last map is {x.shape[1]}x{x.shape[2]}x{x.shape[3]}, {x[0].numel()} numbers, where the embedding "
            f"layer takes {linear.in_features}: the chips are not of the size the network was trained on"
        )
    return x.flatten(1)


class TensorMismatch(NamedTuple):
    """A tensor that does not match: ``missing``, ``unknown``, or of another ``shape`` than ``wanted``."""

    problem: str
    key: str
    shape: tuple[int, ...] | None
    wanted: tuple[int, ...] | None

    def __str__(self) -> str:
        """Describe it in a few words."""
        if self.problem == "shape":
            return f"{self.key} is {self.shape}, not {self.wanted}"
        return f"{self.problem} {self.key} {self.wanted if self.shape is None else self.shape}"


class MismatchedTensorsError(ValueError):
    """Tensors do not match a network.

    Attributes
    ----------
    problems
        All mismatches.
    """

    def __init__(self, problems: Sequence[TensorMismatch]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


def load_exactly(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Load tensors as float32 into a network, which may be on the meta device.

    Raises
    ------
    MismatchedTensorsError
        A ValueError that lists all mismatches.
    """
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    # Batch normalisation counts its batches; nothing reads the counters.
    for key in wanted.keys() - tensors.keys():
        if key.endswith("num_batches_tracked"):
            tensors[key] = torch.zeros((), dtype=torch.long)
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [TensorMismatch("missing", key, None, wanted[key]) for key in wanted if key not in found]
    wrong += [TensorMismatch("unknown", key, shape, None) for key, shape in found.items() if key not in wanted]
    wrong += [
        TensorMismatch("shape", key, shape, wanted[key])
        for key, shape in found.items()
        if key in wanted and shape != wanted[key]
    ]
    if wrong:
        raise MismatchedTensorsError(wrong)
    network.load_state_dict(tensors, assign=True)
    return network
