"""Names of the metrics, without what computes them."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """What predictions are judged by."""

    accuracy = "accuracy"
    f1 = "f1"
    macro_f1 = "macro-f1"
    matthews = "matthews"
    pearson = "pearson"
    spearman = "spearman"
