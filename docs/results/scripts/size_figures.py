"""Draw time and memory against size: detect by photos, layerdiff by bytes.

Usage: python docs/results/scripts/size_figures.py RECORDS.jsonl CHART.png

RECORDS are what ``make bench`` writes, or what the two scripts themselves print: detect.py with ``--sizes``,
layerdiff.py with sizes in GB. Time is that of processors, which other work on the machine adds least to.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.charts import new_figure, picture, style
from facetools.reporting.charts import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]
Points = list[tuple[float, float, float]]
"""Size, processor seconds, MB of memory at the peak."""


def points_of(records: list[Record]) -> tuple[Points, Points]:
    """Return the points of detect and of layerdiff, by size."""
    photos = [(each["photos"], each["processor_s"], each["peak_mb"]) for each in records if each.get("part") == "size"]
    bytes_ = [
        (float(each["size"].split()[0]), each["layerdiff_cpu_s"], each["peak_mb"])
        for each in records
        if re.fullmatch(r"[\d.]+ GB", str(each.get("size")))
    ]
    return sorted(photos), sorted(bytes_)


def draw(photos: Points, gigabytes: Points) -> bytes:
    """Draw four panels: a column a command, time above memory."""
    with style():
        figure = new_figure(4.2, width_in=6.0)
        columns = zip(figure.subplots(2, 2, sharex="col").T, (photos, gigabytes), COLOURS, MARKERS, strict=False)
        titles = (("detect", "photos"), ("layerdiff", "GB a side"))
        for ((times, memory), points, colour, marker), (title, unit) in zip(columns, titles, strict=True):
            sizes = [size for size, _, _ in points]
            seconds, most = [s for _, s, _ in points], [mb for _, _, mb in points]
            for axes, values in ((times, seconds), (memory, most)):
                axes.plot(sizes, values, color=colour, marker=marker, markersize=4)
                axes.set_xscale("log")
            times.set_yscale("log")
            times.set_ylim(10 ** math.floor(math.log10(min(seconds))), 10 ** math.ceil(math.log10(max(seconds))))
            times.yaxis.set_major_formatter("{x:g}")
            times.minorticks_off()
            times.set_title(title, fontsize=9)
            memory.set_ylim(0, 1.2 * max(most))
            _plain(memory, sizes, unit)
            times.set_ylabel("processor seconds")
            memory.set_ylabel("memory at the peak, MB")
        return picture(figure)


def _plain(axes: Axes, sizes: list[float], unit: str) -> None:
    """Name the sizes that were measured, and no others."""
    axes.set_xticks(sizes, [f"{size:,g}" if size < 1000 else f"{size:,.0f}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(unit)


def main(records: Path, chart: Path) -> None:
    """Read, and draw."""
    photos, gigabytes = points_of([json.loads(line) for line in records.read_text().splitlines()])
    if not photos or not gigabytes:
        raise SystemExit(
            f"{records}: no sizes of {'layerdiff' if photos else 'detect'}; run both benchmarks with sizes"
        )
    chart.write_bytes(draw(photos, gigabytes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
