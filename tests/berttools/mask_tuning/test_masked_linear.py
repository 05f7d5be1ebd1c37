"""Masks that are learned: draws, gradients, patterns, and what is kept for good."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _toolio.errors import ToolError
from berttools.classifier.model import Classifier, open_base
from berttools.kernels import available
from berttools.mask_tuning import masked_linear as supermask
from berttools.mask_tuning.masked_linear import (
    Draws,
    MaskedLinear,
    can_mask,
    largest,
    mask_model,
    reaches_zero,
    two_of_four,
    unmask_model,
)
from berttools.mask_tuning.recipe import Method, Pattern, Recipe
from berttools.texts.labels import Labels
from tiny_models import make_base

CPU = torch.device("cpu")


def layer_of(rows: int, columns: int, recipe: Recipe, *, heads: int = 1, seed: int = 0) -> MaskedLinear:
    torch.manual_seed(seed)
    return MaskedLinear(nn.Linear(columns, rows), recipe, Draws(seed=seed, steps=10), 0, heads)


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    make_base(tmp_path / "base")
    return open_base(tmp_path / "base", Labels(("no", "yes")))


def matrices(classifier: Classifier) -> list[str]:
    return [
        name
        for name, _ in classifier.model.named_parameters()
        if ".layer." in name and can_mask(classifier.model, name)
    ]


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


def test_draws_follow_from_seed_step_and_matrix() -> None:
    def bits(seed: int = 0, step: int = 0, index: int = 0) -> Tensor:
        return Draws(seed, 10).bits(step, index, 1003, CPU)

    assert len(bits()) == 1003
    assert torch.equal(bits(), bits())
    for other in (bits(seed=1), bits(step=1), bits(index=1)):
        assert (other == bits()).float().mean() < 0.01
    assert abs(float(Draws(0, 10).bits(0, 0, 100_000, CPU).float().mean())) < 5 * 65536 / math.sqrt(12 * 100_000)


@pytest.mark.parametrize("method", Method)
def test_the_gradient_goes_straight_through(method: Method) -> None:
    layer = layer_of(6, 8, Recipe(method, initial_sparsity=0.25, initial_score=1.0), seed=3)
    layer.scores.data += torch.randn_like(layer.scores) * 0.3
    x = torch.randn(2, 5, 8, requires_grad=True)
    keep = layer.keep()
    layer(x).square().sum().backward()
    weight, s = layer.weight.detach(), layer.scores.detach()
    y = F.linear(x.detach(), weight * keep, layer.bias.detach())
    torch.testing.assert_close(x.grad, 2 * y @ (weight * keep))
    to_mask = torch.einsum("bto,bti->oi", 2 * y, x.detach()) * weight
    slope = torch.sigmoid(s) * (1 - torch.sigmoid(s)) if method is Method.bernoulli else torch.ones_like(s)
    torch.testing.assert_close(layer.scores.grad, to_mask * slope)


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


def test_the_largest_stay() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.3], [0.2, 0.4, 0.6]])
    assert largest(scores, 0.5).tolist() == [[False, True, False], [False, True, True]]
    assert largest(scores, 0.0).all()
    assert int(largest(torch.zeros(10, 10), 0.37).sum()) == 63


def test_two_of_four_stay() -> None:
    ranks = torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    assert two_of_four(ranks).tolist() == [[True, False, True, False, True, True, False, False]]


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("method", Method)
def test_the_smallest_weights_begin_as_zeroed(method: Method, sparsity: float) -> None:
    layer = layer_of(20, 30, Recipe(method, initial_sparsity=sparsity)).eval()
    keep = layer.keep()
    assert int((~keep).sum()) == round(sparsity * 600)
    sizes = layer.weight.detach().abs()
    if sparsity:
        assert sizes[~keep].max() < sizes[keep].min()


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


def test_queries_that_share_keys_have_heads_of_their_own() -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=8,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForSequenceClassification(config)
    places = {group: f"model.layers.0.self_attn.{group}_proj.weight" for group in "qkvo"}
    mask_model(model, places.values(), Recipe(pattern=Pattern.head), Draws(0, 10))
    found = {group: tuple(model.get_parameter(name[:-6] + "scores").shape) for group, name in places.items()}
    assert found == {"q": (8, 1), "k": (2, 1), "v": (2, 1), "o": (1, 8)}


def test_what_is_zeroed_is_zero_whatever_it_was() -> None:
    layer = layer_of(2, 3, Recipe())
    layer.weight.data = torch.tensor([[torch.inf, -torch.inf, torch.nan], [-0.0, -2.0, 3.0]])
    keep = torch.tensor([[False, False, False], [True, False, True]])
    assert layer.masked(keep).tolist() == [[0.0, 0.0, 0.0], [-0.0, 0.0, 3.0]]
    assert torch.signbit(layer.masked(keep)).tolist() == [[False] * 3, [True, False, False]]


def test_what_draws_come_from_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert supermask.draws_of(CPU, Pattern.free) == "numpy"
    assert available.kernels_for(torch.zeros(2, 2)) is None
    monkeypatch.setattr(supermask, "triton_kernels", lambda: None)
    assert supermask.draws_of(cuda, Pattern.free) == "torch"
    monkeypatch.setattr(supermask, "triton_kernels", lambda: supermask)
    assert supermask.draws_of(cuda, Pattern.free) == "triton"
    assert supermask.draws_of(cuda, Pattern.two_of_four) == "torch"


def test_the_k_th_smallest_is_sortings() -> None:
    values = torch.randn(1000).round(decimals=1)
    for k in (1, 2, 500, 999, 1000):
        assert float(values.sort().values[k - 1]) == supermask._smallest(values, k)


def test_topk_goes_to_its_target() -> None:
    recipe = Recipe(Method.topk, initial_sparsity=0.1, target_sparsity=0.5)
    assert [round(recipe.sparsity_at(share), 4) for share in (0.0, 0.4, 0.8, 1.0)] == [0.1, 0.45, 0.5, 0.5]
    layer = layer_of(20, 20, recipe)
    layer._draws.step = 10
    assert int(layer.keep().sum()) == 200


def logits_of(classifier: Classifier) -> Tensor:
    ids = torch.arange(4, 24).reshape(2, 10) % 20
    with torch.inference_mode():
        found: Tensor = classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return found


@pytest.mark.parametrize("stored", [None, 7])
def test_what_is_unmasked_says_the_same_bit_for_bit(classifier: Classifier, stored: int | None) -> None:
    names = matrices(classifier)
    before = {name: each.detach().clone() for name, each in classifier.model.named_parameters()}
    draws = Draws(0, 10, stored=stored)
    scores = mask_model(classifier.model, names, Recipe(initial_sparsity=0.3, initial_score=1.0), draws)
    assert list(scores) == names
    classifier.model.eval()
    masked = logits_of(classifier)
    keeps = unmask_model(classifier.model, scores)
    assert torch.equal(masked, logits_of(classifier))
    assert not any(isinstance(module, MaskedLinear) for module in classifier.model.modules())
    for name, parameter in classifier.model.named_parameters():
        if name in keeps:
            expected = np.where(keeps[name], before[name].numpy(), np.float32(0))
            assert expected.tobytes() == parameter.detach().numpy().tobytes(), name
        else:
            assert torch.equal(parameter, before[name]), name
    share = np.mean([1 - keep.mean() for keep in keeps.values()])
    assert share == pytest.approx(0.3 if stored is None else 0.3 * 0.73 + 0.7 * 0.27, abs=0.03)


def test_what_cannot_be_masked_is_refused(classifier: Classifier) -> None:
    model: Any = classifier.model
    name = next(name for name, _ in model.named_parameters() if "word_embeddings" in name)
    with pytest.raises(ToolError, match="not the matrix of a linear layer"):
        mask_model(model, [name], Recipe(), Draws(0, 1))
    outer = next(name for name in matrices(classifier) if "intermediate" in name)
    with pytest.raises(ToolError, match="give --group Q,K,V,AO"):
        mask_model(model, [outer], Recipe(pattern=Pattern.head), Draws(0, 1))


def test_rates_that_do_not_reach_zero_are_known() -> None:
    slopes = [0.5] * 100
    assert not reaches_zero(Recipe(initial_score=5.0), slopes, 0.1)
    assert reaches_zero(Recipe(initial_score=5.0), slopes, 0.11)
    assert reaches_zero(Recipe(Method.topk, initial_score=5.0), slopes, 1e-6)
