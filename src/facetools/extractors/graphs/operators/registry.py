"""The table of operators, and what all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

OLDEST, NEWEST = 7, 28
"""Versions of the operator set ("opsets") whose operators are known; before 7, broadcasting had rules of its own."""

MOST_VALUES = 2**27
"""Numbers that a tensor of one chip may have; 512 MB of float32. No face recogniser comes near."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator in a graph.

    Attributes
    ----------
    operator
        Its name, such as ``Conv``.
    opset
        Version of the operator set, which decides what inputs and attributes mean.
    attributes
        Its attributes by name: numbers, texts and lists of these.
    inputs
        Names of its inputs; "" where one is left out.
    outputs
        Names of its outputs, without those that are left out at the end.
    """

    operator: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        return self.attributes.get(name, default)

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        return [int(value) for value in self.attributes.get(name, default)]


Function = Callable[..., Any]
"""Maps a node and its inputs (None where one is left out) to its output, or to a tuple of its outputs."""


@dataclass(frozen=True, slots=True)
class Operator:
    """How an operator is computed.

    Attributes
    ----------
    function
        The computation.
    attributes
        Names of the attributes that it reads; a node with others is refused.
    """

    function: Function
    attributes: frozenset[str]


OPERATORS: dict[str, Operator] = {}
"""Every operator that is read, by name. The modules beside this one fill it."""

Decorated = TypeVar("Decorated", bound=Function)


def operator(*names: str, attributes: str = "") -> Callable[[Decorated], Decorated]:
    """Register a function as the computation of operators; ``attributes`` are those it reads, with blanks between."""

    def register(function: Decorated) -> Decorated:
        for name in names:
            OPERATORS[name] = Operator(function, frozenset(attributes.split()))
        return function

    return register


def refuse(node: Node, what: str) -> ValueError:
    """Return the error of an operator in a form that is not read."""
    return ValueError(f"cannot convert its operator {node.operator} (opset {node.opset}): {what}")


def require(node: Node, name: str, *known: Any) -> Any:
    """Return an attribute whose value is one of ``known``, the first of which is its default; ValueError otherwise."""
    value = node.get(name, known[0])
    if value not in known:
        raise refuse(node, f"{name} {value} is not read")
    return value


def integers(values: Tensor) -> list[int]:
    """Return the values of a tensor of integers as a list."""
    return [int(value) for value in values.reshape(-1).tolist()]


def together(*tensors: Tensor) -> list[Tensor]:
    """Return tensors on one device: shapes and indices lie on the CPU, chips and weights where the network is."""
    device = next((each.device for each in tensors if each.device.type != "cpu"), None)
    return list(tensors) if device is None else [each.to(device) for each in tensors]


def bounded(node: Node, shape: Sequence[int]) -> list[int]:
    """Return a shape that values are about to fill; ValueError if it holds more than ``MOST_VALUES``."""
    if any(side < 0 for side in shape) or math.prod(shape) > MOST_VALUES:
        raise refuse(node, f"{'x'.join(map(str, shape))} is too large")
    return list(shape)


def broadcast(node: Node, *tensors: Tensor) -> list[Tensor]:
    """Return tensors on one device, after a check that their broadcast result is not too large."""
    bounded(node, np.broadcast_shapes(*(each.shape for each in tensors)))
    return together(*tensors)


def axes_of(node: Node, given: Tensor | None, rank: int) -> list[int] | None:
    """Return the axes of a node, an attribute before some opset and an input since, as 0 to ``rank`` - 1; or None."""
    axes = integers(given) if given is not None else node.get("axes")
    return None if axes is None else [axis_in(node, axis, rank) for axis in axes]


def axis_in(node: Node, axis: int, rank: int) -> int:
    """Return an axis, which may count from the end, as 0 to ``rank`` - 1; ValueError if there is no such axis."""
    if not -rank <= axis < max(rank, 1):
        raise refuse(node, f"it has no axis {axis} of {rank}")
    return axis % rank if rank else 0
