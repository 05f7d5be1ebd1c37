"""Which scores are the largest."""

from __future__ import annotations

import torch

from berttools.mask_tuning import kept
from berttools.mask_tuning.kept import largest, two_of_four


def test_the_largest_stay() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.3], [0.2, 0.4, 0.6]])
    assert largest(scores, 0.5).tolist() == [[False, True, False], [False, True, True]]
    assert largest(scores, 0.0).all()
    assert int(largest(torch.zeros(10, 10), 0.37).sum()) == 63


def test_two_of_four_stay() -> None:
    ranks = torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    assert two_of_four(ranks).tolist() == [[True, False, True, False, True, True, False, False]]


def test_the_k_th_smallest_is_sortings() -> None:
    values = torch.randn(1000).round(decimals=1)
    for k in (1, 2, 500, 999, 1000):
        assert float(values.sort().values[k - 1]) == kept._smallest(values, k)
