"""Draw the charts of a report: one an extractor for results, one for each training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from _toolio.words import printable
from facetools.names import short_names
from facetools.reporting.charts import Bar, Line, Panel, bar_chart, line_chart, parts
from facetools.reporting.results import KEYS, Result, Training, share_of, varying
from facetools.reporting.tables import percent

GROUP = ("cloak", "attack", "mode")
"""Fields that group the bars; within a group bars differ in the others."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report.

    Attributes
    ----------
    name
        Path in the report's folder.
    data
        A PNG file.
    alt
        Alternative text.
    caption
        Caption.
    size
        Width and height in pixels.
    """

    name: str
    data: bytes
    alt: str
    caption: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the file's header."""
        return int.from_bytes(self.data[16:20], "big"), int.from_bytes(self.data[20:24], "big")


def label_of(result: Result, keys: Sequence[str], short: dict[str, str]) -> str:
    """Name a result by some of its keys."""
    stated = [short.get(value, value) for key in keys if (value := result.about.get(key))]
    return ", ".join(printable(value) for value in stated)


def result_charts(results: Sequence[Result]) -> Iterator[Picture]:
    """Draw the protection of every result: a chart an extractor, several where one would have too many bars."""
    extractors = list(dict.fromkeys(result.about.get("extractor", "") for result in results))
    drawn = 0
    for extractor in extractors:
        mine = [result for result in results if result.about.get("extractor", "") == extractor]
        # What distinguishes an extractor's cloaks is enough: embeddings of one cloak lie in a folder an extractor.
        short = short_names(result.about.get("cloak", "") for result in mine)
        bars = _bars(mine, short | short_names(result.source for result in mine))
        groups = list(dict.fromkeys(group for group, _ in bars))
        names = list(dict.fromkeys(name for _, name in bars))
        chunks = parts(len(groups), len(names))
        for number, chunk in enumerate(chunks, 1):
            drawn += 1
            part = f", part {number} of {len(chunks)}" if len(chunks) > 1 else ""
            here = {key: bar for key, bar in bars.items() if key[0] in [groups[n] for n in chunk]}
            yield _result_chart(f"charts/protection-{drawn}.png", extractor, part, here, names)


def _bars(results: Sequence[Result], short: dict[str, str]) -> dict[tuple[str, str], Bar]:
    """Return the bar of each result by its group and its name in the group, which are unique together."""
    inner = [key for key in varying(results) if key not in (*GROUP, "extractor")]
    inner = [key for key in KEYS if key in inner or key == "classifier"]
    bars: dict[tuple[str, str], Bar] = {}
    for result in results:
        group, name = label_of(result, GROUP, short) or "cloak", label_of(result, inner, {}) or "all"
        if (group, name) in bars:
            name = f"{name}, {short[result.source]}"
        ends = result.summary.get("interval")
        mark = share_of(result.summary, "floor")
        bars[group, name] = Bar(
            float(result.summary["protection"]), (float(ends[0]), float(ends[1])) if ends else None, mark
        )
    return bars


def _result_chart(
    name: str, extractor: str, part: str, bars: dict[tuple[str, str], Bar], names: Sequence[str]
) -> Picture:
    groups = list(dict.fromkeys(group for group, _ in bars))
    series = [(each, [bars.get((group, each)) for group in groups]) for each in names]
    data = bar_chart(groups, series, label="protection: share of photos named wrongly", mark="nothing cloaked (floor)")
    stated = "; ".join(f"{group} by {each} {percent(bar.value)}" for (group, each), bar in bars.items())
    shown = printable(extractor) or "unnamed"
    alt = f"Bar chart of protection{_intervals(bars, '')}, extractor {shown}{part}: {stated}."
    return Picture(name, data, alt, f"Protection by extractor {shown}{part}{_intervals(bars, ' over people', ', ')}.")


def _intervals(bars: dict[tuple[str, str], Bar], over: str, before: str = " ") -> str:
    """Say that there are intervals; nothing where no bar has one."""
    have = sum(bar.interval is not None for bar in bars.values())
    some = "" if have == len(bars) else " where there are people and photos enough"
    return f"{before}with 95% intervals{over}{some}" if have else ""


def training_chart(number: int, training: Training) -> Picture:
    """Draw one training: shares above, losses below."""
    epochs = [float(epoch["epoch"]) for epoch in training.epochs]

    def lines(**names: str) -> list[Line]:
        found = [Line(name, epochs, [share_of(each, key) for each in training.epochs]) for key, name in names.items()]
        return [line for line in found if any(value is not None for value in line.y)]

    shares = lines(protection="protection of cloaked photos", clean_accuracy="clean photos named rightly")
    panels = [Panel("share", shares, percent=True)] if shares else []
    panels.append(Panel("loss", lines(loss="training loss", clean_loss="loss on clean photos")))
    stated = [
        f"{line.name} from {_end(line, 0, panel.percent)} to {_end(line, -1, panel.percent)}"
        for panel in panels
        for line in panel.lines
    ]
    alt = f"Line chart of training {number}, {len(epochs)} epochs: {'; '.join(stated)}."
    data = line_chart(panels, x_label="epoch")
    return Picture(f"charts/training-{number}.png", data, alt, f"Training {number}: {printable(training.source)}.")


def _end(line: Line, place: int, is_share: bool) -> str:
    value = [value for value in line.y if value is not None][place]
    return percent(value) if is_share else f"{value:.4g}"
