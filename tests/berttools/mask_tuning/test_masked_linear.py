"""Masks that are learned: draws, gradients, patterns, and what is kept for good."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.kept import two_of_four
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.mask_tuning.recipe import Distance, Method, Pattern, Recipe

CPU = torch.device("cpu")


def layer_of(rows: int, columns: int, recipe: Recipe, *, heads: int = 1, seed: int = 0) -> MaskedLinear:
    torch.manual_seed(seed)
    return MaskedLinear(nn.Linear(columns, rows), recipe, Draws(seed=seed, steps=10), 0, heads)


@pytest.mark.parametrize("score", [-5.0, -1.0, 0.0, 2.0, 5.0])
def test_a_weight_stays_as_often_as_its_score_says(score: float) -> None:
    layer = layer_of(400, 500, Recipe())
    layer.scores.data.fill_(score)
    kept = float(layer.keep().float().mean())
    chance = 1 / (1 + math.exp(-score))
    assert abs(kept - chance) < 5 * math.sqrt(chance * (1 - chance) / 200_000)


def test_scores_far_from_zero_are_certain() -> None:
    layer = layer_of(300, 300, Recipe())
    layer.scores.data.fill_(40.0)
    assert layer.keep().all()
    layer.scores.data.fill_(-40.0)
    assert not layer.keep().any()


@pytest.mark.parametrize("method", Method)
def test_the_gradient_goes_straight_through(method: Method) -> None:
    layer = layer_of(6, 8, Recipe(method, initial_sparsity=0.25, initial_score=1.0), seed=3)
    layer.scores.data += torch.randn_like(layer.scores) * 0.3
    x = torch.randn(2, 5, 8, requires_grad=True)
    assert layer.bias.requires_grad
    keep = layer.keep()
    layer(x).square().sum().backward()
    weight, s = layer.weight.detach(), layer.scores.detach()
    y = F.linear(x.detach(), weight * keep, layer.bias.detach())
    torch.testing.assert_close(x.grad, 2 * y @ (weight * keep))
    to_mask = torch.einsum("bto,bti->oi", 2 * y, x.detach()) * weight
    slope = torch.sigmoid(s) * (1 - torch.sigmoid(s)) if method is Method.bernoulli else torch.ones_like(s)
    torch.testing.assert_close(layer.scores.grad, to_mask * slope)
    torch.testing.assert_close(layer.bias.grad, 2 * y.sum((0, 1)))


def test_large_matrices_go_in_blocks() -> None:
    layer = layer_of(700, 400, Recipe())
    layer.scores.data = torch.randn(700, 400)
    x = torch.randn(3, 400)
    keep = layer.keep()
    assert abs(float(keep.float().mean()) - 0.5) < 0.01
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight * keep, layer.bias))
    layer(x).sum().backward()
    slope = torch.sigmoid(layer.scores) * torch.sigmoid(-layer.scores)
    torch.testing.assert_close(layer.scores.grad, (x.sum(0) * layer.weight * slope).detach())


def test_no_second_copy_of_the_weights_is_kept() -> None:
    layer = layer_of(64, 64, Recipe())
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.randn(3, 64, requires_grad=True))
    floats = [each for each in kept if each.shape == (64, 64) and each.dtype.is_floating_point]
    assert [each.data_ptr() for each in floats] == [layer.scores.data_ptr()]
    assert [each.dtype for each in kept if each.shape == (64, 64)].count(torch.bool) == 1


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("method", Method)
def test_the_smallest_weights_begin_as_zeroed(method: Method, sparsity: float) -> None:
    layer = layer_of(20, 30, Recipe(method, initial_sparsity=sparsity)).eval()
    keep = layer.keep()
    assert int((~keep).sum()) == round(sparsity * 600)
    sizes = layer.weight.detach().abs()
    if sparsity:
        assert sizes[~keep].max() < sizes[keep].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("method", Method)
def test_scores_may_begin_in_proportion_to_magnitudes(method: Method, sparsity: float) -> None:
    recipe = Recipe(method, initial_sparsity=sparsity, initial_score=3.0, distance=Distance.magnitude)
    layer = layer_of(20, 30, recipe).eval()
    sizes = layer.weight.detach().abs().double().flatten()
    ordered = sorted(map(float, sizes))
    zeroed = round(sparsity * 600)
    mean = sum(ordered) / 600
    expected = [3.0 * size / mean * (-1 if size in ordered[:zeroed] else 1) for size in map(float, sizes)]
    torch.testing.assert_close(layer.scores.detach().flatten(), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert sizes[~layer.keep().flatten()].sort().values.tolist() == ordered[:zeroed]


def test_a_matrix_of_zeros_has_scores() -> None:
    layer = nn.Linear(4, 3)
    layer.weight.data.zero_()
    recipe = Recipe(initial_sparsity=0.5, distance=Distance.magnitude)
    assert MaskedLinear(layer, recipe, Draws(seed=0, steps=10), 0).scores.eq(0).all()


def test_magnitudes_order_groups_of_weights_too() -> None:
    fours = layer_of(16, 32, Recipe(pattern=Pattern.two_of_four, distance=Distance.magnitude)).eval()
    assert torch.equal(fours.keep(), two_of_four(fours.weight.detach().abs()))
    rows = layer_of(8, 6, Recipe(pattern=Pattern.row, initial_sparsity=0.25, distance=Distance.magnitude)).eval()
    sizes = rows.weight.detach().abs().sum(1)
    assert rows.keep().all(1).tolist() == (sizes > sizes.sort().values[1]).tolist()
    assert rows.scores[:, 0].abs().argsort().tolist() == sizes.argsort().tolist()


@pytest.mark.parametrize("method", [Method.bernoulli, Method.topk])
def test_two_of_four_is_a_half_in_training_and_after(method: Method) -> None:
    layer = layer_of(16, 32, Recipe(method, Pattern.two_of_four, initial_score=1.0))
    drawn = layer.keep()
    for keep in (drawn, layer.eval().keep()):
        assert (keep.reshape(-1, 4).sum(1) == 2).all()
    assert torch.equal(layer.keep(), two_of_four(layer.weight.detach().abs()))
    assert (method is Method.bernoulli) != torch.equal(drawn, layer.keep())


def test_rows_and_heads_go_as_a_whole() -> None:
    rows = layer_of(8, 6, Recipe(pattern=Pattern.row, initial_sparsity=0.25)).eval()
    assert rows.scores.shape == (8, 1)
    sizes = rows.weight.detach().abs().sum(1)
    assert rows.keep().all(1).tolist() == (sizes > sizes.sort().values[1]).tolist()
    assert not rows.keep()[~rows.keep().all(1)].any()

    heads = layer_of(8, 6, Recipe(pattern=Pattern.head), heads=4).eval()
    assert heads.scores.shape == (2, 1)
    heads.scores.data[1] = -1
    assert heads.keep().all(1).tolist() == [True] * 4 + [False] * 4

    columns = layer_of(8, 6, Recipe(pattern=Pattern.head), heads=-3).eval()
    assert columns.scores.shape == (1, 2)
    columns.scores.data[0, 0] = -1
    assert columns.keep().all(0).tolist() == [False] * 3 + [True] * 3


def test_a_head_has_the_sum_of_its_weights_gradients() -> None:
    layer = layer_of(8, 6, Recipe(Method.threshold, Pattern.head), heads=4)
    x = torch.randn(5, 6)
    layer(x).sum().backward()
    each = layer.weight.detach() * x.sum(0)
    torch.testing.assert_close(layer.scores.grad, each.reshape(2, -1).sum(1, keepdim=True))


def test_what_is_zeroed_is_zero_whatever_it_was() -> None:
    layer = layer_of(2, 3, Recipe())
    layer.weight.data = torch.tensor([[torch.inf, -torch.inf, torch.nan], [-0.0, -2.0, 3.0]])
    keep = torch.tensor([[False, False, False], [True, False, True]])
    assert layer.masked(keep).tolist() == [[0.0, 0.0, 0.0], [-0.0, 0.0, 3.0]]
    assert torch.signbit(layer.masked(keep)).tolist() == [[False] * 3, [True, False, False]]


def test_topk_goes_to_its_target() -> None:
    recipe = Recipe(Method.topk, initial_sparsity=0.1, target_sparsity=0.5)
    assert [round(recipe.sparsity_at(share), 4) for share in (0.0, 0.4, 0.8, 1.0)] == [0.1, 0.45, 0.5, 0.5]
    layer = layer_of(20, 20, recipe)
    layer._draws.step = 10
    assert int(layer.keep().sum()) == 200
