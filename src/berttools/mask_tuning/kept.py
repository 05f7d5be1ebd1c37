"""Which weights stay, by rank of their scores: the largest of a matrix, or the two largest of each four."""

from __future__ import annotations

import torch
from torch import Tensor

from berttools.masks.controls import drop_smallest


def largest(scores: Tensor, sparsity: float) -> Tensor:
    """Mark all scores but the smallest share ``sparsity``, bool of the same shape; of ties the first are dropped.

    NaN ranks above all numbers, as in `berttools.masks.controls`.
    """
    dropped, flat = round(sparsity * scores.numel()), scores.flatten()
    if flat.device.type == "cpu":  # numpy selects and compares much faster than torch there
        return torch.from_numpy(drop_smallest(flat.numpy(), dropped)).view_as(scores)
    return _sorted_out(flat, dropped).view_as(scores)  # kthvalue is one block's work on a GPU


def _sorted_out(values: Tensor, dropped: int) -> Tensor:
    """Return what `drop_smallest` does."""
    keep = torch.zeros_like(values, dtype=torch.bool)
    keep[values.sort(stable=True).indices[dropped:]] = True
    return keep


def two_of_four(ranks: Tensor) -> Tensor:
    """Mark the two largest of each four in a row, bool of the same shape [rows, columns]."""
    fours = ranks.reshape(-1, 4)
    order = fours.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(1, order[:, :2], value=True).view_as(ranks)
