"""Charts: bars with intervals, and lines; PNG, SVG and PDF. The same numbers give the same bytes.

A file looks the same whatever the user's matplotlib settings are, holds no date, and is drawn without a display.
Colours are those of Okabe and Ito, which people tell apart whatever colours they see; lines differ in their dashes and
markers too.
"""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import UsageError
from _toolio.paths import refuse_existing
from _toolio.records import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""Okabe and Ito's palette; grey stands for its black, which marks and text have."""

HATCHES = ("", "///", "...", "xxx")
"""Tell bars apart once the colours are used up."""

MARKERS, DASHES = "osD^vP", ("-", "--", ":", "-.")

INK, FAINT = "#1a1a1a", "#d0d0d0"

WIDTH_IN = 4.0
"""Width of a chart: at the width of a phone its text of 9 points is still 9 pixels high."""

DPI = 240

MOST_BARS = 48
"""Bars in one chart. More go into further charts."""

_BAR_IN, _GAP_IN = 0.2, 0.16
_LABEL_CHARS = 18

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a name may hold dollar signs
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "facetools",  # else names inside the file are drawn at random
    "pdf.fonttype": 42,  # journals refuse matplotlib's own, type 3
}

FORMATS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What a chart can be written as, and what a file of that kind shall not tell: when and by what it was drawn."""

_STARTS = {"png": (b"\x89PNG",), "svg": (b"<?xml", b"<svg"), "pdf": (b"%PDF",)}


@dataclass(frozen=True, slots=True)
class Bar:
    """A value from 0 to 1; the ends of its interval, if it has one; and what it is to be compared with."""

    value: float
    interval: tuple[float, float] | None = None
    mark: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line's name and its points; points without a value are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share an axis.

    Attributes
    ----------
    label
        What the axis shows.
    lines
        One at least.
    percent
        Values are shares, and the axis goes from 0% to 100%; otherwise it begins at 0.
    """

    label: str
    lines: Sequence[Line]
    percent: bool = False


@contextmanager
def style() -> Iterator[None]:
    """Draw as all charts here are drawn, whatever the user's settings say, and without a word on stderr."""
    # It tells of a cache folder that it had to make elsewhere, and of letters that its font lacks.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    # A backend is never changed here: a figure draws itself.
    settings: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    settings |= _STYLE
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.simplefilter("ignore")
        yield


def new_figure(height_in: float, *, width_in: float = WIDTH_IN) -> Figure:
    """Give an empty figure that draws without a display; call it, and ``picture``, inside ``style``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, kind: str = "png") -> bytes:
    """Write a figure as one of ``FORMATS``, without the date and the version of what drew it."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=FORMATS[kind])
    return out.getvalue()


def form_of(path: Path, *, force: bool) -> str:
    """Tell by its name which of ``FORMATS`` a file is to have, before any work is done for it.

    Raises
    ------
    UsageError
        It has none of their suffixes, or cannot be written; or it exists, and ``force`` may not replace it.
    """
    form = path.suffix.lower()[1:]
    if form not in FORMATS:
        raise UsageError(f"--out {path}: is drawn as PNG, SVG or PDF; name a .png, .svg or .pdf file")
    refuse_existing(path, force=force, kind=f"{form.upper()} file", starts=_STARTS[form])
    return form


def label_of(text: str, *, chars: int = _LABEL_CHARS, lines: int = 2) -> str:
    """Make a name fit beside an axis: broken into lines, cut with dots where there are too many."""
    broken = textwrap.wrap(printable(text), chars) or [""]
    if len(broken) > lines:
        broken = [*broken[: lines - 1], "".join(broken[lines - 1 :])[: chars - 1] + "…"]
    return "\n".join(broken)


def parts(groups: int, series: int) -> list[range]:
    """Deal groups of bars out to charts, so that none has more than ``MOST_BARS`` if it can be helped."""
    each = max(1, MOST_BARS // max(1, series))
    return [range(first, min(first + each, groups)) for first in range(0, groups, each)]


def bar_chart(
    groups: Sequence[str], series: Sequence[tuple[str, Sequence[Bar | None]]], *, label: str, mark: str = ""
) -> bytes:
    """Draw horizontal bars from 0% to 100%, in groups.

    Parameters
    ----------
    groups
        Names of the groups, from top to bottom.
    series
        In each group a bar of each series: its name and, for each group, the bar or None.
    label
        What the axis shows.
    mark
        What the marks are, for the legend.
    """
    with style():
        height = len(groups) * (len(series) * _BAR_IN + _GAP_IN)
        figure = new_figure(height + 0.75 + 0.19 * (len(series) + bool(mark)))
        axes = figure.subplots()
        slot = _BAR_IN / (len(series) * _BAR_IN + _GAP_IN)
        for number, (name, bars) in enumerate(series):
            places = [group + slot * (number - (len(series) - 1) / 2) for group in range(len(groups))]
            known = [(place, bar) for place, bar in zip(places, bars, strict=True) if bar is not None]
            _draw_bars(axes, known, number, slot, label_of(name, chars=46))
        _label_marks(axes, mark)
        axes.set_yticks(range(len(groups)), [label_of(name) for name in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1)
        percent(axes.xaxis)
        axes.set_xlabel(label)
        figure.legend(loc="outside upper left")
        return picture(figure)


def _draw_bars(axes: Axes, known: Sequence[tuple[float, Bar]], number: int, slot: float, name: str) -> None:
    colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number // len(COLOURS) % len(HATCHES)]
    places, values = [place for place, _ in known], [bar.value for _, bar in known]
    axes.barh(places, values, 0.86 * slot, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
    for place, bar in known:
        if bar.interval:
            low, high = bar.interval
            # The mean may lie a rounding outside its own interval.
            ends = [[max(0.0, bar.value - low)], [max(0.0, high - bar.value)]]
            axes.errorbar([bar.value], [place], xerr=ends, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        if bar.mark is not None:
            _mark(axes, bar.mark, place, slot)


def _mark(axes: Axes, value: float, place: float, slot: float) -> None:
    """Draw a mark across a bar's slot: dark on a light rim, to be seen on every colour and at the very edge."""
    ends = [place - 0.46 * slot, place + 0.46 * slot]
    axes.plot([value, value], ends, color="white", linewidth=3.4, solid_capstyle="butt", clip_on=False, zorder=3)
    axes.plot([value, value], ends, color=INK, linewidth=1.8, solid_capstyle="butt", clip_on=False, zorder=4)


def _label_marks(axes: Axes, mark: str) -> None:
    if mark:
        axes.plot([], [], color=INK, linewidth=0, marker="|", markersize=9, markeredgewidth=1.8, label=mark)


def line_chart(panels: Sequence[Panel], *, x_label: str) -> bytes:
    """Draw panels of lines, one below the other, along one axis."""
    with style():
        rows = sum(len(panel.lines) for panel in panels)
        figure = new_figure(1.75 * len(panels) + 0.3 + 0.19 * rows)
        for number, (axes, panel) in enumerate(
            zip(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True)
        ):
            for place, line in enumerate(panel.lines):
                _draw_line(axes, line, place)
            if panel.percent:
                axes.set_ylim(-0.02, 1.02)
                percent(axes.yaxis)
            else:
                axes.set_ylim(bottom=0)
            axes.set_ylabel(panel.label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
            if number == len(panels) - 1:
                axes.set_xlabel(x_label)
        return picture(figure)


def _draw_line(axes: Axes, line: Line, number: int) -> None:
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=COLOURS[number % len(COLOURS)],
        linestyle=DASHES[number % len(DASHES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4 if len(points) <= 40 else 0,
        linewidth=1.6,
        label=label_of(line.name, chars=46),
        clip_on=False,
    )


def percent(axis: object) -> None:
    """Show an axis of shares as percentages."""
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    axis.set_major_locator(MultipleLocator(0.25))  # type: ignore[attr-defined]  # either axis
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))  # type: ignore[attr-defined]
