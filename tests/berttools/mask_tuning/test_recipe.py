"""What a recipe says of sparsity and of scores."""

from __future__ import annotations

import pytest

from berttools.mask_tuning.recipe import Distance, Method, Recipe, reaches_zero


def test_rates_that_do_not_reach_zero_are_known() -> None:
    slopes = [0.5] * 100
    assert not reaches_zero(Recipe(initial_score=5.0), slopes, 0.1)
    assert reaches_zero(Recipe(initial_score=5.0), slopes, 0.11)
    assert reaches_zero(Recipe(initial_score=5.0, distance=Distance.magnitude), slopes, 0.011)
    assert not reaches_zero(Recipe(initial_score=5.0, distance=Distance.magnitude), slopes, 0.01)
    assert reaches_zero(Recipe(Method.topk, initial_score=5.0), slopes, 1e-6)


def test_sparsity_rises_to_the_target_by_four_fifths() -> None:
    recipe = Recipe(Method.topk, initial_sparsity=0.1, target_sparsity=0.5)
    found = [recipe.sparsity_at(share) for share in (0.0, 0.4, 0.8, 1.0)]
    assert found == pytest.approx([0.1, 0.5 - 0.4 / 8, 0.5, 0.5])
    assert Recipe(initial_sparsity=0.3).sparsity_at(0.7) == 0.3
