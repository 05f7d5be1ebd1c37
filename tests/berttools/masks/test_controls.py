"""Control masks zero exactly as many entries, at random or the smallest, grouped as the pattern has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
