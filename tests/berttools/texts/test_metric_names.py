"""The names are those of what computes them."""

from __future__ import annotations

from berttools.texts.metric_names import Metric
from berttools.texts.metrics import CLASSIFICATION, MULTILABEL, REGRESSION


def test_every_metric_can_be_chosen() -> None:
    assert [str(each) for each in Metric] == list(dict.fromkeys([*CLASSIFICATION, *REGRESSION, *MULTILABEL]))
