"""Tune rows or columns of a tensor while the rest of it stays bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class _TunedPart(NamedTuple):
    """Rows or columns of a parameter, and a contiguous copy of them, which the optimizer updates."""

    whole: nn.Parameter
    axis: int
    start: int
    stop: int
    copy: nn.Parameter

    def of(self, tensor: Tensor) -> Tensor:
        """Return a view of the part of a tensor of the parameter's shape."""
        return tensor.narrow(self.axis, self.start, self.stop - self.start)


class TunedParts:
    """The parameters that an optimizer updates: whole ones as they are, and copies of parts of others.

    A gradient that is zero outside the part would not do: weight decay moves what has no gradient, clipping counts
    what is not tuned, and the moments of the whole tensor would take memory.

    Parameters
    ----------
    named
        The parameters to tune.
    spans
        Axis, start and stop of each part of parameters that are tuned in part; parts do not overlap.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], spans: Mapping[str, Sequence[tuple[int, int, int]]]) -> None:
        self._parts: list[_TunedPart] = []
        self.names: list[str] = []
        """The parameter's name for each of ``parameters``."""
        self.parameters = nn.ParameterList()
        """What the optimizer updates."""
        for name, whole in named.items():
            made = [_cut(whole, *span) for span in spans.get(name, ())]
            self._parts += made
            updated = [part.copy for part in made] or [whole]
            self.parameters.extend(updated)
            self.names += [name] * len(updated)

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Move the gradients of parts from the model's parameters to their copies."""
        for part in self._parts:
            part.copy.grad = None if part.whole.grad is None else part.of(part.whole.grad).contiguous()
        for part in self._parts:
            part.whole.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the parts, as the optimizer or a checkpoint has left them, into the model's parameters."""
        for part in self._parts:
            part.of(part.whole).copy_(part.copy)


def _cut(whole: nn.Parameter, axis: int, start: int, stop: int) -> _TunedPart:
    values = whole.detach().narrow(axis, start, stop - start)
    return _TunedPart(whole, axis, start, stop, nn.Parameter(values.clone(memory_format=torch.contiguous_format)))
