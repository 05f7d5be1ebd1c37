"""What a threshold costs on clean faces, drawn and in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from _toolio.charts import style
from _toolio.errors import ToolError
from facetools.metrics import share_interval
from facetools.reporting.detector_alarms import false_alarms
from facetools.reporting.detector_scores import Scores


def scores_of(clean: Sequence[float], cloaked: Sequence[float], threshold: float | None = 0.5) -> Scores:
    values = np.array([*clean, *cloaked])
    kinds = np.array([0] * len(clean) + [1] * len(cloaked))
    return Scores(values, kinds, ("lowkey",), np.arange(len(values)), "faces", threshold, {})


def drawn(scores: Scores) -> Any:
    with style():
        return false_alarms(scores)


def points(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_the_cost_of_every_threshold() -> None:
    figure, (fields,) = drawn(scores_of([0.1, 0.1, 0.3, 0.5], (0.9, 0.9)))
    low, high = share_interval(1, 4)
    assert (fields["false_alarms"], fields["flagged"], fields["faces"]) == (0.25, 1, 4)
    assert fields["interval"] == pytest.approx((low, high))
    curve, line, mark = figure.axes[0].get_lines()
    shares = dict(points(curve))
    assert [shares[t] for t in (0.0, 0.1, 0.101, 0.3, 0.301, 0.5)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert 0 < shares[0.501] == shares[1.0] < 0.25, "none is flagged: below the share of one"
    assert (points(line)[0][0], points(mark)) == (0.5, [(0.5, 0.25)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "share of 4 clean faces",
        "95% interval (Wilson's)",
        "at the threshold of 0.5, 1 of your 4 clean faces\nwould be flagged: 25.00% "
        f"(95% interval {low:.2%}-{high:.2%})",
    ]
    none, (untold,) = drawn(scores_of([0.1], (0.9,), threshold=None))
    assert [untold[key] for key in ("false_alarms", "interval", "threshold", "flagged", "summary")] == [None] * 5
    assert len(none.axes[0].get_lines()) == 1


def test_cloaked_faces_alone_have_no_false_alarms() -> None:
    with pytest.raises(ToolError, match=r"kind false-alarms needs clean faces .* there are none; say what"):
        drawn(scores_of([], [0.9]))
