"""Which scores are the largest."""

from __future__ import annotations

import torch

from berttools.mask_tuning import kept
from berttools.mask_tuning.kept import largest, two_of_four
from berttools.masks.controls import drop_smallest


def test_the_largest_stay() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.3], [0.2, 0.4, 0.6]])
    assert largest(scores, 0.5).tolist() == [[False, True, False], [False, True, True]]
    assert largest(scores, 0.0).all()
    assert int(largest(torch.zeros(10, 10), 0.37).sum()) == 63


def test_two_of_four_stay() -> None:
    ranks = torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    assert two_of_four(ranks).tolist() == [[True, False, True, False, True, True, False, False]]


def test_it_is_the_same_by_selection_and_by_sorting() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    values[::50] = torch.nan
    values[1::50] = torch.inf
    for dropped in (0, 1, 2, 500, 959, 960, 970, 979, 980, 981, 999, 1000):
        keep = torch.from_numpy(drop_smallest(values.numpy(), dropped))
        assert int(keep.sum()) == 1000 - dropped
        assert keep.equal(kept._sorted_out(values, dropped))
