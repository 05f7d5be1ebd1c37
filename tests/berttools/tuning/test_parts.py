"""Parts of parameters: their gradients go to copies, and the copies come back."""

from __future__ import annotations

import torch
from torch import nn

from berttools.tuning.parts import TunedParts


def test_gradients_and_values_of_parts() -> None:
    named = {"a": nn.Parameter(torch.arange(12.0).reshape(3, 4)), "b": nn.Parameter(torch.ones(2))}
    before = named["a"].detach().clone()
    parts = TunedParts(named, {"a": [(1, 0, 1), (1, 2, 4)]})
    assert parts.names == ["a", "a", "b"]
    assert [tuple(each.shape) for each in parts.parameters] == [(3, 1), (3, 2), (2,)]
    (named["a"].square().sum() + named["b"].sum()).backward()
    parts.take_gradients()
    assert named["a"].grad is None
    for each, columns in zip(parts.parameters, (slice(0, 1), slice(2, 4)), strict=False):
        assert each.grad is not None
        assert torch.equal(each.grad, 2 * before[:, columns])
    assert parts.parameters[2].grad is named["b"].grad is not None
    with torch.no_grad():
        parts.parameters[1].fill_(-1)
    parts.write_back()
    assert torch.equal(named["a"][:, :2], before[:, :2])
    assert (named["a"][:, 2:] == -1).all()


def test_a_part_without_a_gradient_has_none() -> None:
    named = {"a": nn.Parameter(torch.zeros(4, 4))}
    parts = TunedParts(named, {"a": [(0, 1, 2)]})
    parts.take_gradients()
    assert parts.parameters[0].grad is None
