"""How well scores tell two kinds of faces apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def area_under_roc(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Give the chance that a cloaked face scores higher than a clean one, ties counting half; None without both."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    values, start = scores[order], 0
    for stop in [*(np.flatnonzero(np.diff(values)) + 1), len(values)]:
        ranks[order[start:stop]] = (start + stop + 1) / 2
        start = stop
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return None
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))
