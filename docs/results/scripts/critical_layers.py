"""Print the tables of docs/results/critical-layers.md from what examples/bert-masks.mk has measured.

Usage: python docs/results/scripts/critical_layers.py WORK > tables.md

WORK/<task>/<seed>/<run>.jsonl are records of ``berttools finetune``, whose last one is of the whole run, and
<run>.diff.jsonl those of ``berttools layerdiff``. Figures are means over seeds, with the least and the largest where
there are several.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

Record = dict[str, Any]

GROUPS = ("Q", "K", "V", "AO", "I", "O")

TITLES = {
    "full": "everything",
    "most-angle": "the half that moved most, by angle",
    "most-mean_abs": "the half that moved most, by mean absolute change",
    "most-rel_l2": "the half that moved most, by relative L2",
    "least-angle": "the half that moved least, by angle",
    "random": "a random half",
    "upper": "the upper half of the layers",
    "lower": "the lower half of the layers",
    "head": "the head alone",
    "null": "everything, on shuffled labels",
}


def read(path: Path) -> list[Record]:
    """Read records."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def title_of(run: str) -> str:
    """Describe what a run tuned."""
    return TITLES.get(run) or f"{run.removeprefix('group-')} of all layers"


def spread(values: Sequence[float | None], digits: int = 1, factor: float = 100) -> str:
    """Write a mean, and the least and the largest of several."""
    known = [factor * value for value in values if value is not None]
    if not known:
        return "-"
    shown, least, most = (f"{value:.{digits}f}" for value in (mean(known), min(known), max(known)))
    return shown if least == most else f"{shown} ({least} to {most})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a Markdown table."""
    for number, cells in enumerate([list(head), *map(list, rows)]):
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("|" + " --- |" * len(cells))


def results(task: Path) -> dict[str, dict[str, Record]]:
    """Return the last record of each run, by run and seed."""
    found: dict[str, dict[str, Record]] = {}
    for path in sorted(task.glob("*/*.jsonl")):
        run = path.name.removesuffix(".jsonl")
        if "." not in run and run != "shuffled" and (records := read(path)) and "tuned" in records[-1]:
            found.setdefault(run, {})[path.parent.name] = records[-1]
    return found


def metrics_table(task: Path) -> None:
    """Print what tuning some of a model is worth beside tuning all of it."""
    found = results(task)
    full = found.get("full", {})
    metric = next(iter(full.values()))["metric"]
    print(f"\n### {task.name}: {metric} x 100, seeds {', '.join(sorted(full))}\n")
    order = {run: number for number, run in enumerate(TITLES)}

    def line(run: str) -> list[str]:
        records = found[run]
        beside = [
            record["score"] - full[seed]["score"]
            for seed, record in records.items()
            if seed in full and None not in (record["score"], full[seed]["score"])
        ]
        tuned = spread([r["tuned"] / r["parameters"] for r in records.values()])
        stored = spread([4 * r["stored"] / 1e6 for r in records.values()], factor=1)
        return [title_of(run), spread([r["score"] for r in records.values()]), spread(beside), tuned, stored]

    runs = sorted(found, key=lambda run: (order.get(run, len(order) / 2), run))
    table(["tuned", metric, "beside everything", "% of parameters", "MB stored"], map(line, runs))


def diff_of(path: Path) -> dict[str, Record]:
    """Return layerdiff's records by name."""
    return {record["name"]: record for record in read(path)}


def half_of(records: dict[str, Record], key: str) -> set[str]:
    """Name the half that moved most."""
    ranked = sorted(records, key=lambda name: -records[name][key])
    return set(ranked[: (len(ranked) + 1) // 2])


def movement_table(tasks: Sequence[Path]) -> None:
    """Print mean angles by group: of the tuned model, of one tuned on shuffled labels, of a fresh initialisation."""
    rows = []
    for task in tasks:
        tuned, null = (
            [diff_of(path) for path in sorted(task.glob(f"*/{name}.diff.jsonl"))] for name in ("full", "null")
        )
        for what, key, models in (
            ("tuned", "angle", tuned),
            ("shuffled labels", "angle", null),
            ("fresh", "baseline_angle", tuned),
        ):
            rows.append(
                [task.name, what, *(spread(angles_of(models, group, key), 4, 1).split()[0] for group in GROUPS)]
            )
    print("\n### Angle to the base in units of pi, mean over layers and seeds\n")
    table(["task", "model", *GROUPS], rows)


def angles_of(models: Iterable[dict[str, Record]], group: str, key: str) -> list[float]:
    """Return a group's angles in all layers of some models."""
    return [record[key] for model in models for record in model.values() if record["group"] == group]


def overlap_table(tasks: Sequence[Path]) -> None:
    """Print how much of the half that moved most is the same: by another measure, seed, or with nothing to learn."""
    rows = []
    for task in tasks:
        tuned, null = (
            [diff_of(path) for path in sorted(task.glob(f"*/{name}.diff.jsonl"))] for name in ("full", "null")
        )
        halves = [half_of(model, "angle") for model in tuned]

        def shared(others: Iterable[set[str]], halves: list[set[str]] = halves) -> list[float]:
            return [len(one & other) / len(one) for one, other in zip(halves, others, strict=False)]

        rows.append(
            [
                task.name,
                *(spread(shared(half_of(model, key) for model in tuned)) for key in ("mean_abs", "rel_l2")),
                spread([len(a & b) / len(a) for a, b in combinations(halves, 2)]),
                spread(shared(half_of(model, "angle") for model in null)),
            ]
        )
    print("\n### Of the half that moved most by angle, % that is in the half that moved most ...\n")
    table(["task", "by mean absolute change", "by relative L2", "with another seed", "on shuffled labels"], rows)


def main(work: Path) -> None:
    """Print the tables."""
    tasks = [path for path in sorted(work.iterdir()) if any(path.glob("*/full.jsonl"))]
    for task in tasks:
        metrics_table(task)
    movement_table(tasks)
    overlap_table(tasks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
