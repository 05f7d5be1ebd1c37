"""Draw what each threshold costs on clean faces: the share of them that it would label cloaked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.charts import INK, WIDTH_IN, new_figure
from _toolio.errors import ToolError, param, spelled
from _toolio.words import many
from facetools.metrics import share_interval
from facetools.names import CLEAN
from facetools.reporting.charts import COLOURS, MARKERS, few_percent, with_legend
from facetools.reporting.detector_scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = 1000
"""Thresholds drawn, from 0 to 1."""


def false_alarms(scores: Scores) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw the share of clean faces that reaches each threshold, and mark the records' threshold.

    Raises
    ------
    ToolError
        There are no clean faces.
    """
    values = scores.values[scores.kinds == 0]
    if not len(values):
        raise ToolError(
            f"{param('kind')} false-alarms needs clean faces with scores, and there are none; say what is clean: "
            f"{param('clean')} FILE",
            kind="one-class",
        )
    fields = alarm_figures(values, scores.threshold)
    figure = new_figure(WIDTH_IN)
    axes = figure.subplots()
    least = 0.3 / len(values)  # below one face: where the curve goes once no face is left
    _draw_curve(axes, values, least)
    if scores.threshold is not None:
        axes.axvline(scores.threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        look: dict[str, Any] = {"marker": MARKERS[0], "markersize": 5, "linewidth": 0, "color": INK, "zorder": 4}
        share, text = max(fields["false_alarms"], least), fields["summary"].replace(" would", "\nwould")
        axes.plot([scores.threshold], [share], label=text, clip_on=False, **look)
    axes.set(xlim=(0, 1), ylim=(least, 1), xlabel="threshold", ylabel="clean faces labelled cloaked")
    few_percent(axes)
    return with_legend(figure, axes, WIDTH_IN - 0.5), [fields]


def _draw_curve(axes: Axes, values: npt.NDArray[np.float64], least: float) -> None:
    thresholds = np.arange(STEPS + 1) / STEPS
    flagged = len(values) - np.searchsorted(np.sort(values), thresholds)
    low, high = np.array([share_interval(int(count), len(values)) for count in flagged]).T
    axes.set_yscale("log")  # the shares that matter are below 1%
    look: dict[str, Any] = {"step": "pre", "color": COLOURS[0], "alpha": 0.25, "linewidth": 0}
    axes.plot(
        thresholds,
        np.maximum(flagged / len(values), least),
        color=COLOURS[0],
        drawstyle="steps-pre",
        linewidth=1.6,
        label=f"share of {_faces(len(values))}",
    )
    axes.fill_between(thresholds, np.maximum(low, least), high, label="95% interval (Wilson's)", **look)


def alarm_figures(values: npt.NDArray[np.float64], threshold: float | None) -> dict[str, Any]:
    """Return how many clean faces a threshold labels cloaked; None and a reason without a threshold.

    Parameters
    ----------
    values
        Scores of clean faces, [n] in 0 to 1.
    threshold
        Scores from here on are labelled cloaked.
    """
    faces = len(values)
    if threshold is None:
        none = dict.fromkeys(("false_alarms", "interval", "threshold", "flagged", "summary"))
        reason = spelled(f"no threshold, or different ones; give {param('threshold')}")
        return {**none, "name": CLEAN, "faces": faces, "reason": reason}
    flagged = int((values >= threshold).sum())
    low, high = share_interval(flagged, faces)
    return {
        "false_alarms": flagged / faces,
        "name": CLEAN,
        "interval": (low, high),
        "threshold": threshold,
        "flagged": flagged,
        "faces": faces,
        "summary": f"at the threshold of {threshold:g}, {flagged:,} of your {_faces(faces)} would be flagged: "
        f"{flagged / faces:.2%} (95% interval {low:.2%}-{high:.2%})",
    }


def _faces(count: int) -> str:
    return many(count, "clean face")
