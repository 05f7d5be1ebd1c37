"""Measure whether cloaks protect anybody from a recogniser that trains on them."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.evaluation.config import EvaluationConfig
    from facetools.evaluation.study import EvaluationStudy, Protection

__all__ = ["EvaluationConfig", "EvaluationStudy", "Protection"]

__getattr__ = exporter(
    __name__,
    {
        "EvaluationConfig": "config",
        "EvaluationStudy": "study",
        "Protection": "study",
    },
)
