"""Print what matrices chosen before any tuning are worth beside draws at random, by examples/critical-layers.mk.

Usage: python docs/results/scripts/chosen_layers.py WORK > tables.md

WORK/<task>/<seed>/<choice>.<budget>.jsonl are records of ``berttools finetune``, of which the last is of the whole run;
choices called random-<n> are draws. Whatever is there is printed: a table of a budget as soon as a seed has two draws.

The difference of a choice is its score minus the mean of the draws of the same task, seed and budget, averaged over
seeds. Its 95% interval is Student's: draws are taken to vary as much as the choice would with other seeds, and their
standard deviation within seeds, s, has (draws - 1) degrees of freedom a seed. With S seeds of K draws the standard
error is s sqrt((1 + 1/K) / S). It holds the noise of training and of drawing, and not that of the texts measured on,
which are the same for all. Choices called like-<criterion>-<n> are several of one kind, and averaged.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, variance
from typing import Any, NamedTuple

Record = dict[str, Any]
Runs = dict[str, dict[str, Record]]
"""The last record of each run of a budget, by seed and choice."""

TITLES = {
    "fisher": "Fisher information",
    "grad": "gradient times weight",
    "fisher-fitted": "Fisher information, head fitted first",
    "grad-fitted": "gradient times weight, head fitted first",
    "cosine": "cosine between layers",
    "lift": "LIFT's principal weights",
    "moved": "moved most when all was tuned",
    "top": "the topmost",
    "like-grad": "groups as by gradient times weight, layers at random",
}


class Difference(NamedTuple):
    """A difference to the mean of draws, its standard error, and the degrees of freedom of that."""

    value: float
    error: float
    freedom: int

    @property
    def half_width(self) -> float:
        """Half of the 95% interval."""
        return self.error * student(self.freedom)

    def shown(self) -> str:
        """Write it with its interval, in hundredths."""
        low, high = (100 * (self.value + sign * self.half_width) for sign in (-1, 1))
        return f"{100 * self.value:+.1f} ({low:+.1f} to {high:+.1f})"


@cache
def student(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t: the density integrated by Simpson's rule, and bisected."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def inside(limit: float, steps: int = 2000) -> float:
        width = limit / steps
        heights = [scale * math.pow(1 + (n * width) ** 2 / freedom, -(freedom + 1) / 2) for n in range(steps + 1)]
        return width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))

    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < 0.475 else (low, middle)
    return high


def read_runs(task: Path) -> dict[int, Runs]:
    """Return the runs of a task by budget; those cut off, and seeds that have not two draws yet, are left out."""
    found: dict[int, Runs] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(task.glob("*/*.*.jsonl")):
        choice, budget = path.name.removesuffix(".jsonl").rsplit(".", 1)
        lines = path.read_text(encoding="utf-8").splitlines()
        if budget.isdecimal() and lines and "tuned" in (record := json.loads(lines[-1])):
            found[int(budget)][path.parent.name][choice] = record
    whole = {
        budget: {seed: each for seed, each in runs.items() if len(scores_of(each)) > 1}
        for budget, runs in sorted(found.items())
    }
    return {budget: runs for budget, runs in whole.items() if runs}


def of_kind(runs: Mapping[str, Record], choice: str) -> list[Record]:
    """Return a seed's runs of a choice: the one of that name, or several that are numbered."""
    return [record for name, record in runs.items() if name == choice or re.fullmatch(rf"{choice}-\d+", name)]


def scores_of(runs: Mapping[str, Record], choice: str = "random") -> list[float]:
    """Return a seed's scores of a choice, by default of the draws.

    A correlation that there is not, as every text got the same label, is 0.
    """
    return [float(record["score"] or 0) for record in of_kind(runs, choice)]


def difference(runs: Runs, choice: str) -> Difference | None:
    """Return how far a choice is above the draws, over all seeds that have it."""
    every = [scores_of(each) for each in runs.values()]
    pairs = [(own, scores_of(each)) for each in runs.values() if (own := scores_of(each, choice))]
    if not pairs:
        return None
    freedom = sum(len(draws) - 1 for draws in every)
    pooled = sum(variance(draws) * (len(draws) - 1) for draws in every) / freedom
    value = mean(mean(own) - mean(draws) for own, draws in pairs)
    error = math.sqrt(sum(pooled * (1 / len(own) + 1 / len(draws)) for own, draws in pairs)) / len(pairs)
    return Difference(value, error, freedom)


def beaten(runs: Runs, choice: str) -> tuple[int, int]:
    """Return how many draws of the same seed score lower than a choice, and of how many."""
    pairs = [(own, draw) for each in runs.values() for own in scores_of(each, choice) for draw in scores_of(each)]
    return sum(score > draw for score, draw in pairs), len(pairs)


def choices_in(runs: Runs) -> list[str]:
    """Return the choices that some seed has, in the order of ``TITLES``."""
    return [choice for choice in TITLES if any(of_kind(each, choice) for each in runs.values())]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a Markdown table."""
    for number, cells in enumerate([list(head), *map(list, rows)]):
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("|" + " --- |" * len(cells))


def shown(records: Sequence[Record]) -> list[str]:
    """Write the mean score of runs, the share of parameters that they tune, and their number."""
    share = mean(record["tuned"] / record["parameters"] for record in records)
    score = mean(float(record["score"] or 0) for record in records)
    return [f"{100 * score:.1f}", f"{100 * share:.1f}", str(len(records))]


def budget_table(task: str, budget: int, runs: Runs) -> None:
    """Print the choices of a task and a budget beside draws."""
    draws = [record for each in runs.values() for record in of_kind(each, "random")]
    some = draws[0]
    print(f"\n### Chosen beforehand: {task}, {budget}% of the matrices: {some['metric']} x 100, {some['step']} steps\n")
    rows = []
    for choice in choices_in(runs):
        found = difference(runs, choice)
        if found is not None:
            records = [record for each in runs.values() for record in of_kind(each, choice)]
            better, of = beaten(runs, choice)
            rows.append((found.value, [TITLES[choice], *shown(records), found.shown(), f"{better} of {of}"]))
    spread = math.sqrt(mean(variance(scores_of(each)) for each in runs.values()))
    rows.append((0.0, ["at random", *shown(draws), f"one draw: s = {100 * spread:.1f}", "-"]))
    ranked = [row for _, row in sorted(rows, key=lambda row: -row[0])]
    table(["chosen by", some["metric"], "% of parameters", "runs", "above draws (95%)", "draws beaten"], ranked)


def summary_table(tasks: Mapping[str, Mapping[int, Runs]]) -> None:
    """Print each choice's mean difference over tasks and budgets, and how often it is above, and clear of, chance."""
    rows = []
    for choice in TITLES:
        cells = [
            (found, beaten(runs, choice))
            for by_budget in tasks.values()
            for runs in by_budget.values()
            if (found := difference(runs, choice))
        ]
        if not cells:
            continue
        differences = [found for found, _ in cells]
        error = math.sqrt(sum(each.error**2 for each in differences)) / len(differences)
        total = Difference(mean(each.value for each in differences), error, sum(each.freedom for each in differences))
        clear = [sum(sign * each.value > each.half_width for each in differences) for sign in (1, -1)]
        better, of = (sum(each[n] for _, each in cells) for n in (0, 1))
        row = [TITLES[choice], total.shown(), str(len(cells)), str(clear[0]), str(clear[1]), f"{better} of {of}"]
        rows.append((total.value, row))
    ranked = [row for _, row in sorted(rows, key=lambda row: -row[0])]
    head = ["chosen by", "above draws, mean (95%)", "tasks x budgets", "above chance in", "below in", "draws beaten"]
    table(head, ranked)


def main(work: Path) -> None:
    """Print the tables."""
    tasks = {path.name: read_runs(path) for path in sorted(work.iterdir()) if path.is_dir()}
    print("### Chosen beforehand: all tasks and budgets\n")
    summary_table(tasks)
    for task, by_budget in tasks.items():
        for budget, runs in by_budget.items():
            budget_table(task, budget, runs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
