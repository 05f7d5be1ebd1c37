"""Control masks zero exactly as many entries, at random or the smallest, grouped as the pattern has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from berttools.mask_tuning.kept import largest, two_of_four
from berttools.masks.controls import control_mask, magnitude_mask, random_mask


@given(values=st.lists(st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 2.0, float("nan")]), min_size=1), data=st.data())
def test_exactly_as_many_with_ties_and_nan(values: list[float], data: st.DataObject) -> None:
    array = np.array(values, np.float32)
    zeroed = data.draw(st.integers(0, array.size))
    for choose in (magnitude_mask, random_mask):
        keep = choose(array, zeroed, np.random.default_rng(0))
        assert int((~keep).sum()) == zeroed
    keep = magnitude_mask(array, zeroed, np.random.default_rng(0))
    order = np.argsort(np.abs(array), kind="stable")
    assert np.array_equal(np.flatnonzero(~keep), np.sort(order[:zeroed]))


@pytest.mark.parametrize("kind", ["random", "magnitude"])
def test_zeros_are_grouped_as_the_pattern_has_them(kind: str) -> None:
    values = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    rows = control_mask(values, 16, kind, "row", np.random.default_rng(0))
    assert sorted(rows.sum(1)) == [0, 0, 8, 8, 8, 8]
    fours = control_mask(values, 24, kind, "2:4", np.random.default_rng(0))
    assert set(fours.reshape(-1, 4).sum(1)) == {2}
    if kind == "magnitude":
        sizes = np.abs(values).sum(1)
        assert sizes[~rows.any(1)].max() < sizes[rows.any(1)].min()
        kept = np.where(fours, np.abs(values), np.inf).reshape(-1, 4).min(1)
        assert (np.where(fours, 0, np.abs(values)).reshape(-1, 4).max(1) < kept).all()


def test_a_generator_decides() -> None:
    values = np.zeros((8, 8), np.float32)
    one, again, other = (random_mask(values, 20, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


_TIED = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0, float("nan"), -float("nan"), float("inf"), -float("inf")])


@given(values=st.lists(_TIED, min_size=4, max_size=40), data=st.data())
def test_a_learned_mask_and_its_control_choose_alike(values: list[float], data: st.DataObject) -> None:
    """Of equal weights, and of NaN, too."""
    array = np.array(values[: len(values) // 4 * 4], np.float32)
    sizes, rng = torch.from_numpy(array).abs(), np.random.default_rng(0)
    zeroed = data.draw(st.integers(0, array.size))
    learned = largest(sizes, zeroed / array.size).numpy()
    assert np.array_equal(learned, magnitude_mask(array, zeroed, rng))
    fours = two_of_four(sizes.reshape(-1, 4)).numpy()
    assert np.array_equal(fours, control_mask(array.reshape(-1, 4), array.size // 2, "magnitude", "2:4", rng))
