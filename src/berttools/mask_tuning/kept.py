"""Which weights stay, by rank of their scores: the largest of a matrix, or the two largest of each four."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def largest(scores: Tensor, sparsity: float) -> Tensor:
    """Mark all scores but the smallest share ``sparsity``, bool of the same shape; of ties the first are dropped.

    NaN ranks above all numbers, as in `berttools.masks.controls`.
    """
    dropped = round(sparsity * scores.numel())
    keep = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    if dropped:
        flat = scores.flatten()
        limit = _smallest(flat, dropped)
        ties = flat.isnan() if math.isnan(limit) else flat == limit
        keep = ~(ties | (flat < limit)) & (not math.isnan(limit))
        # Of ties with the limit as many stay as there is room for.
        spare = scores.numel() - dropped - int(keep.sum())
        if spare:
            keep[ties.nonzero()[-spare:, 0]] = True
    return keep.view_as(scores)


def _smallest(values: Tensor, k: int) -> float:
    """Return the k-th smallest value, k from 1."""
    if values.device.type == "cpu":  # numpy's selection is 20 times as fast as torch's there
        return float(np.partition(values.numpy(), k - 1)[k - 1])
    return float(values.sort().values[k - 1])  # kthvalue is one block's work on a GPU


def two_of_four(ranks: Tensor) -> Tensor:
    """Mark the two largest of each four in a row, bool of the same shape [rows, columns]."""
    fours = ranks.reshape(-1, 4)
    order = fours.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(1, order[:, :2], value=True).view_as(ranks)
