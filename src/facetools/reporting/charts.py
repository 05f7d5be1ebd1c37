"""Bar charts with intervals, and line charts. The same numbers have the same bytes.

The style is that of `_toolio.charts`. Colours are Okabe and Ito's, distinguishable with any colour vision; lines
differ in their dashes and markers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _toolio.charts import INK, WIDTH_IN, label_of, new_figure, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""Okabe and Ito's palette; grey stands for its black, which marks and text have."""

HATCHES = ("", "///", "...", "xxx")
"""Hatches of bars beyond the number of colours."""

MARKERS, DASHES = "osD^vP", ("solid", "dashed", "dotted", "dashdot")

MOST_BARS = 48
"""Bars in one chart. More go into further charts."""

_BAR_IN, _GAP_IN = 0.2, 0.16


@dataclass(frozen=True, slots=True)
class Bar:
    """A value from 0 to 1, the ends of its interval if it has one, and a reference value to mark."""

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
        Label of the axis.
    lines
        One at least.
    percent
        Values are shares, and the axis goes from 0% to 100%; otherwise it begins at 0.
    """

    label: str
    lines: Sequence[Line]
    percent: bool = False


def parts(groups: int, series: int) -> list[range]:
    """Divide groups of bars among charts of at most ``MOST_BARS``, unless one group has more."""
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
        Label of the axis.
    mark
        Meaning of the marks, for the legend.
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


def few_percent(axes: Axes) -> None:
    """Show the y axis as percentages of any size, with few ticks unless it is logarithmic."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))


def with_legend(figure: Figure, axes: Axes, rest_in: float) -> Figure:
    """Put a legend above, and set the figure's height to the legend and ``rest_in`` inches."""
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left")
    figure.set_size_inches(WIDTH_IN, rest_in + legend.get_window_extent().height / figure.dpi)
    return figure
