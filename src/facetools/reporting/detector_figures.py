"""Draw a detector's scores: ROC curves, histograms, reliability diagrams, false alarms; one function a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from _toolio.charts import INK, WIDTH_IN, new_figure, picture, style
from _toolio.errors import ToolError, param, spelled
from _toolio.words import many, printable
from facetools.metrics import (
    area_interval,
    area_under_roc,
    calibration_bins,
    calibration_error,
    equal_error_rate,
    roc_points,
)
from facetools.names import CLEAN, short_names
from facetools.reporting.charts import COLOURS, DASHES, HATCHES, MARKERS, few_percent, percent, with_legend
from facetools.reporting.detector_alarms import false_alarms
from facetools.reporting.detector_scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Fields = dict[str, Any]
Plotted = tuple["Figure", list[Fields]]

BARS = 40
"""Bars of a histogram from 0 to 1, so that 0.5 lies between two."""

_FINEST = 2000
"""Resolution of a drawn curve, in steps an axis: more would only make the file larger."""

_CHARS = 24
"""Characters of a cloak's name, so that its numbers fit beside it."""


def draw(kind: str, scores: Scores, form: str) -> tuple[bytes, list[Fields]]:
    """Draw one of ``KINDS``.

    Parameters
    ----------
    kind, scores
        Kind of figure, and its scores.
    form
        Of ``charts.FORMATS``.

    Returns
    -------
    bytes, list of dict
        The file, and for each curve the fields of a record, that which ranks it first.

    Raises
    ------
    ToolError
        The kind needs clean and cloaked faces, and there are none of one.
    """
    with style():
        figure, figures = KINDS[kind](scores)
        return picture(figure, form), [_rounded({**each, "left_out": scores.left_out}) for each in figures]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def roc_figures(scores: Scores, cloak: int) -> Fields:
    """Return AUC, equal error rate and rates at the threshold for one cloak, numbered from 1, against clean faces."""
    values, hidden, groups = scores.against(cloak)
    return {
        "auc": area_under_roc(values, hidden),
        "name": scores.cloaks[cloak - 1],
        "auc_interval": area_interval(values, hidden, groups),
        "over": scores.over,
        "groups": int(groups.max()) + 1,
        "eer": equal_error_rate(values, hidden),
        **_at_threshold(values, hidden, scores.threshold),
        "clean": int((~hidden).sum()),
        "cloaked": int(hidden.sum()),
    }


def _at_threshold(values: Any, hidden: Any, threshold: float | None) -> Fields:
    """Return recall, precision and false positive rate at the threshold; None and a reason without one."""
    if threshold is None:
        none = dict.fromkeys(("threshold", "recall", "precision", "false_alarms"))
        return {**none, "reason": spelled(f"records have no threshold, or different ones; give {param('threshold')}")}
    found = values >= threshold
    hits, alarms = int((found & hidden).sum()), int((found & ~hidden).sum())
    return {
        "threshold": threshold,
        "recall": hits / int(hidden.sum()),
        "precision": hits / (hits + alarms) if hits + alarms else None,
        "false_alarms": alarms / int((~hidden).sum()),
    }


def roc(scores: Scores) -> Plotted:
    """Draw a ROC curve for each cloak, and mark its threshold and its equal error rate."""
    need_both(scores, "roc")
    figures = [roc_figures(scores, cloak) for cloak in _cloaks(scores)]
    texts = [_roc_text(each, name) for each, name in zip(figures, _short(scores), strict=True)]
    figure = new_figure(WIDTH_IN)
    axes = figure.subplots()
    _set_shares(axes)
    percent(axes.xaxis)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=(0, (2, 2)))
    for number, (each, text) in enumerate(zip(figures, texts, strict=True)):
        values, hidden, _ = scores.against(number + 1)
        alarms, hits = _thinned(*roc_points(values, hidden))
        look: Fields = {"color": COLOURS[number % len(COLOURS)], "clip_on": False, "zorder": 3}
        axes.plot(alarms, hits, linewidth=1.6, linestyle=_dash(number), label=text, **look)
        mark: Fields = {"marker": MARKERS[number % len(MARKERS)], "linewidth": 0, **look, "zorder": 4}
        # The larger one below: a detector without errors has both in one corner.
        axes.plot([each["eer"]], [1 - each["eer"]], markerfacecolor="white", markersize=8, **mark)
        if each["threshold"] is not None:
            axes.plot([each["false_alarms"]], [each["recall"]], markeredgecolor=INK, markersize=5, **mark)
    _explain_marks(axes, scores.threshold, scores.over if figures[0]["auc_interval"] else "")
    axes.set(xlabel="clean faces labelled cloaked (false alarms)", ylabel="cloaked faces found (recall)")
    # As high as wide, nearly: an equal aspect would not go together with the layout, which cut the label below off.
    return with_legend(figure, axes, WIDTH_IN - 0.28), figures


def _label(name: str, chars: int) -> str:
    """Shorten a name to one line, in its middle: names often differ at an end."""
    text = printable(name)
    if len(text) > chars:
        text = f"{text[: chars // 2 - 1]}…{text[-(chars - chars // 2) :]}"
    # matplotlib leaves out what begins with an underscore.
    return f" {text}" if text.startswith("_") else text


def _dash(number: int) -> str:
    """Return a curve's dashes: others for the next curve, and where colours repeat."""
    return DASHES[(number + number // len(COLOURS)) % len(DASHES)]


def _roc_text(each: Fields, name: str) -> str:
    text = f"{_label(name, _CHARS)}: AUC {each['auc']:.4f}"
    if each["auc_interval"]:
        low, high = each["auc_interval"]
        text += f" ({low:.4f}-{high:.4f})"
    text += f"\nequal error rate {each['eer']:.1%}"
    if each["threshold"] is not None:
        text += f"; recall {each['recall']:.1%}, false alarms {each['false_alarms']:.1%}"
    return text


def _explain_marks(axes: Axes, threshold: float | None, over: str) -> None:
    look: Fields = {"marker": MARKERS[0], "linewidth": 0, "color": INK}
    if threshold is not None:
        axes.plot([], [], label=f"at the threshold of {threshold:g}", markersize=5, **look)
    axes.plot([], [], markerfacecolor="white", label="where both errors are equal", markersize=8, **look)
    if over:
        axes.plot([], [], linewidth=0, label=f"in brackets: 95% bootstrap interval over {over}")


def _thinned(alarms: Any, hits: Any) -> tuple[Any, Any]:
    """Drop points that look the same as the one before."""
    steps = np.floor(alarms * _FINEST) + np.floor(hits * _FINEST)
    kept = np.append(True, np.diff(steps) != 0)
    kept[-1] = True
    return alarms[kept], hits[kept]


def histogram(scores: Scores) -> Plotted:
    """Draw a histogram of scores for clean faces and for every cloak, and the threshold."""
    told = bool((scores.kinds >= 0).any())
    kinds = [0, *_cloaks(scores)] if told else [-1]
    names = [CLEAN, *_short(scores)] if told else ["faces"]
    chosen = [(kind, name) for kind, name in zip(kinds, names, strict=True) if (scores.kinds == kind).any()]
    figure = new_figure(1.5 * len(chosen) + 0.65)
    panels = figure.subplots(len(chosen), sharex=True, squeeze=False)[:, 0]
    figures = []
    for axes, (kind, name) in zip(panels, chosen, strict=True):
        values = scores.values[scores.kinds == kind]
        counts = _counts(values)
        whole = scores.cloaks[kind - 1] if kind > 0 else CLEAN if kind == 0 else None
        figures.append(_spread(values, counts, whole, scores.threshold))
        look: Fields = {"facecolor": COLOURS[max(0, kind) % len(COLOURS)], "hatch": HATCHES[min(1, max(0, kind))]}
        edges = np.arange(BARS) / BARS
        axes.bar(edges, counts / len(values), 1 / BARS, align="edge", edgecolor=INK, linewidth=0.5, **look)
        axes.set_title(_spread_text(figures[-1], name), fontsize=9, loc="left")
        axes.set_xlim(0, 1)
        axes.set_ylim(0)
        few_percent(axes)
        if scores.threshold is not None:
            axes.axvline(scores.threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    figure.supylabel("share of faces", fontsize=9)
    panels[-1].set_xlabel(
        "score" if scores.threshold is None else f"score; dashed: the threshold of {scores.threshold:g}"
    )
    return figure, figures


def _counts(values: Any) -> Any:
    """Count scores bar by bar; edges are the floats nearest to decimals, so that 0.3 begins a bar."""
    return np.histogram(values, np.arange(BARS + 1) / BARS)[0]


def _spread(values: Any, counts: Any, name: str | None, threshold: float | None) -> Fields:
    reason = (
        {}
        if threshold is not None
        else {"reason": spelled(f"no threshold, or different ones; give {param('threshold')}")}
    )
    return {
        "detected": None if threshold is None else float((values >= threshold).mean()),
        "name": name,
        "threshold": threshold,
        "faces": len(values),
        "quartiles": np.percentile(values, (25, 50, 75)).tolist(),
        "counts": counts.tolist(),
        **reason,
    }


def _spread_text(each: Fields, name: str) -> str:
    faces = many(each["faces"], "face")
    text = faces if each["name"] is None else f"{_label(name, 42)}\n{faces}"
    return text if each["detected"] is None else f"{text}, {each['detected']:.1%} labelled cloaked"


def calibration(scores: Scores) -> Plotted:
    """Draw a reliability diagram: the share of cloaked faces in each bin of scores, and a histogram below.

    A score is a probability where half of the faces are cloaked: clean and cloaked faces are weighted to be as many.
    """
    need_both(scores, "calibration")
    texts: list[str] = []
    figures: list[Fields] = []
    for cloak, name in zip(_cloaks(scores), _short(scores), strict=True):
        values, hidden, _ = scores.against(cloak)
        bins = calibration_bins(values, hidden, at_a_half=True)
        figures.append(
            {
                "ece": calibration_error(bins),
                "name": scores.cloaks[cloak - 1],
                "bins": [
                    {"score": b.score, "share": b.cloaked, "interval": b.interval, "faces": b.faces} for b in bins
                ],
                "clean": int((~hidden).sum()),
                "cloaked": int(hidden.sum()),
            }
        )
        texts.append(
            f"{_label(name, _CHARS)}: calibration error {figures[-1]['ece']:.3f},\n"
            f"{len(values):,} faces, {int(hidden.sum()):,} cloaked"
        )
    figure = new_figure(WIDTH_IN)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    _set_shares(upper)
    upper.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=(0, (2, 2)), label="score and share agree")
    for number, (each, text) in enumerate(zip(figures, texts, strict=True)):
        _draw_bins(upper, each["bins"], number, text)
    upper.set_ylabel("share of cloaked faces, 95% interval")
    _count(lower, scores)
    return with_legend(figure, upper, WIDTH_IN + 1.2), figures


def _draw_bins(axes: Axes, bins: Sequence[Fields], number: int, text: str) -> None:
    shares = np.array([each["share"] for each in bins])
    ends = np.array([each["interval"] for each in bins]).T
    axes.errorbar(
        [each["score"] for each in bins],
        shares,
        # The share may lie a rounding outside its own interval.
        np.maximum(0, [shares - ends[0], ends[1] - shares]),
        color=COLOURS[number % len(COLOURS)],
        linestyle=_dash(number),
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        linewidth=1.4,
        elinewidth=1,
        capsize=2.5,
        label=text,
        clip_on=False,
        zorder=3,
    )


def _count(axes: Axes, scores: Scores) -> None:
    """Draw a stacked histogram of clean and cloaked faces."""
    parts = [scores.values[scores.kinds == 0], scores.values[scores.kinds > 0]]
    below = np.zeros(BARS)
    for number, (values, name) in enumerate(zip(parts, (CLEAN, "cloaked"), strict=True)):
        counts = _counts(values)
        look: Fields = {"facecolor": ("white", "#999999")[number], "hatch": ("", "////")[number], "label": name}
        axes.bar(np.arange(BARS) / BARS, counts, 1 / BARS, below, align="edge", edgecolor=INK, linewidth=0.5, **look)
        below = below + counts
    axes.set(xlabel="score", ylabel="faces")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=2)


KINDS: dict[str, Callable[[Scores], Plotted]] = {
    "roc": roc,
    "histogram": histogram,
    "calibration": calibration,
    "false-alarms": false_alarms,
}
"""The kinds of figures; the first field of a kind's records is the number that ranks them."""


def need_both(scores: Scores, kind: str) -> None:
    """Raise a ToolError unless there are clean and cloaked faces."""
    clean, cloaked = int((scores.kinds == 0).sum()), int((scores.kinds > 0).sum())
    if not (clean and cloaked):
        raise ToolError(
            f"{param('kind')} {kind} needs clean and cloaked faces with scores, and there are {clean} and {cloaked}; "
            f"say what is cloaked: {param('cloaked')} FOLDER, or {param('clean')} FILE {param('cloaked')} FILE",
            kind="one-class",
        )


def _cloaks(scores: Scores) -> range:
    return range(1, len(scores.cloaks) + 1)


def _short(scores: Scores) -> list[str]:
    short = short_names(scores.cloaks)
    return [short[name] for name in scores.cloaks]


def _set_shares(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    percent(axes.yaxis)
