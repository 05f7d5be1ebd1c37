"""Rank the matrices of a base before any tuning, by what a task's texts or the weights say of them."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.layer_scores.config import Criterion, ScoreConfig
    from berttools.layer_scores.records import score_layers

__all__ = ["Criterion", "ScoreConfig", "score_layers"]

__getattr__ = exporter(__name__, {"Criterion": "config", "ScoreConfig": "config", "score_layers": "records"})
