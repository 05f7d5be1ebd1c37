"""Names of the metrics, importable without numpy."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """Metrics of predictions."""

    accuracy = "accuracy"
    f1 = "f1"
    macro_f1 = "macro-f1"
    matthews = "matthews"
    pearson = "pearson"
    spearman = "spearman"
    micro_f1 = "micro-f1"
