"""Print what limits a mask, and draw the score by steps, from what examples/bert-masks.mk has measured.

Usage: python docs/results/scripts/mask_limits.py WORK [CHART.png]

WORK/<task>/<seed>/limit-<name>.jsonl and limit-<name>.long.jsonl (three times the steps) are records of ``make limits``
beside mask-10, full and their .long; curve-<name>.jsonl those of ``make curves``. Differences are means over the seeds
that both have, with one standard error over seeds. CHART is drawn of the first task that has curves.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from _toolio.charts import new_figure, picture, style
from critical_layers import Record, read, spread, table
from facetools.reporting.charts import COLOURS, DASHES, MARKERS, Line

TITLES = {
    "mask-10": "**masks as they were**",
    "limit-far": "scores twice as far from 0, at twice the rate: draws nearer to certain",
    "limit-farther": "three times as far from 0, at three times the rate",
    "limit-magnitude": "scores begin in proportion to magnitudes",
    "limit-certain": "in proportion to magnitudes, and twice as far at twice the rate",
    "limit-no-qk": "the same, and Q and K left as they are",
    "limit-from-none": "the same, with nothing zeroed at the beginning",
    "limit-threshold": "in proportion to magnitudes, without draws (threshold)",
    "limit-topk": "in proportion to magnitudes, 10 to 15% zeros by a cubic schedule (topk)",
    "limit-head": "the head at three times its rate",
    "limit-hard": "no draws in the second half of the steps",
    "limit-sharper": "draws that grow more certain, ten times in all",
    "limit-momentum": "scores by momentum and a rate a matrix, not by Adam",
    "limit-row-scale": "a learned scale a row",
    "limit-row-norm": "rows scaled to their norm",
    "limit-pooler": "the pooler tuned too",
    "limit-beside": "biases and norms tuned too",
    "limit-magnitude-beside": "in proportion to magnitudes, biases and norms tuned too",
    "limit-far-taught": "twice as far at twice the rate, taught by everything tuned as long",
    "limit-certain-taught": "in proportion and twice as far, taught by everything tuned as long",
    "limit-magnitude-taught": "in proportion to magnitudes, taught by everything tuned as long",
    "mask-10.taught": "taught by everything tuned in the usual steps",
    "limit-norms": "biases and norms alone tuned, no mask",
    "limit-dense": "the weights of the same matrices tuned, no mask",
    "full": "everything tuned",
}
CURVES = {
    "full": "everything tuned",
    "half": "the half of the matrices that moved most",
    "base": "masks",
    "far": "masks, scores twice as far from 0",
    "magnitude": "masks, scores in proportion to magnitudes",
    "certain": "masks, both",
}
USUAL = "mask-10"


def runs_of(task: Path, *, long: bool) -> dict[str, dict[str, Record]]:
    """Return the last record of each run, by run and seed; with the last evaluation's ``loss`` of training."""
    found: dict[str, dict[str, Record]] = {}
    for name in TITLES:
        # What is taught has no other length.
        file = f"{name}.long.jsonl" if long and not name.endswith(".taught") else f"{name}.jsonl"
        for path in sorted(task.glob(f"*/{file}")) if long or not name.endswith(".taught") else ():
            *rounds, last = read(path) or [{}]  # a run that is on has none
            if "path" in last:
                found.setdefault(name, {})[path.parent.name] = {**last, "loss": rounds[-1].get("loss")}
    return found


def beside(records: Mapping[str, Record], control: Mapping[str, Record]) -> str:
    """Write the mean difference of scores over common seeds, and its standard error."""
    seeds = [seed for seed in records if seed in control]
    found = [100 * (records[seed]["score"] - control[seed]["score"]) for seed in seeds]
    if not found:
        return "-"
    error = f" ± {stdev(found) / len(found) ** 0.5:.1f}" if len(found) > 1 else ""
    return f"{mean(found):+.1f}{error}"


def limits_table(task: Path, *, long: bool) -> None:
    """Print what each change brought in so many steps."""
    found = runs_of(task, long=long)
    if len(found) < 2 or USUAL not in found or not any(name.startswith("limit-") for name in found):
        return
    some = next(iter(found[USUAL].values()))
    print(f"\n### What limits a mask: {task.name}, {some['metric']} x 100, {some['step']} steps\n")
    rows = []
    for name, records in found.items():
        values = list(records.values())
        row = [TITLES[name], str(len(records)), spread([each["score"] for each in values])]
        row += ["" if name == USUAL else beside(records, found[USUAL]), beside(records, found.get("full", {}))]
        row += [spread([each.get(key) for each in values], 3, 1) for key in ("dev_loss", "loss")]
        row += [spread([each.get("sparsity") for each in values])]
        row += [spread([each.get("bytes") for each in values], 0, 1e-3)]
        rows.append(row)
    head = ["changed", "seeds", some["metric"], "beside masks", "beside everything tuned"]
    table([*head, "loss", "loss in training", "% zeroed", "kB"], rows)


def curves_of(task: Path) -> list[Line]:
    """Return the mean score of each curve by steps."""
    lines = []
    for name, title in CURVES.items():
        found = [read(path) for path in sorted(task.glob(f"*/curve-{name}.jsonl"))]
        runs = [records[:-1] for records in found if records and "path" in records[-1]]
        if runs:
            points = list(zip(*runs, strict=True))
            scores = [mean(record["score"] for record in point) for point in points]
            lines.append(Line(title, [point[0]["step"] for point in points], scores))
    return lines


def curves_table(task: Path, lines: Sequence[Line]) -> None:
    """Print the scores by steps."""
    print(f"\n### {task.name}: score x 100 by steps\n")
    rows = [[line.name, *(f"{100 * (y or 0):.1f}" for y in line.y)] for line in lines]
    table(["", *(str(x) for x in lines[0].x)], rows)


def draw(lines: Sequence[Line], label: str) -> bytes:
    """Return a chart of scores by steps, PNG; its axis does not begin at 0."""
    with style():
        figure = new_figure(2.6 + 0.19 * len(lines))
        axes = figure.subplots()
        for line, colour, dash, marker in zip(lines, COLOURS, DASHES, MARKERS, strict=False):
            scores = [100 * (y or 0) for y in line.y]
            axes.plot(line.x, scores, color=colour, linestyle=dash, marker=marker, markersize=4, label=line.name)
        axes.set_xlabel("steps of 16 texts")
        axes.set_ylabel(label)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
        return picture(figure)


def main(work: Path, chart: Path | None) -> None:
    """Print the tables, and draw the chart."""
    for task in sorted(path for path in work.iterdir() if path.is_dir()):
        for long in (False, True):
            limits_table(task, long=long)
        if lines := curves_of(task):
            curves_table(task, lines)
            if chart is not None:
                chart.write_bytes(draw(lines, f"{task.name}, score x 100"))
                chart = None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
