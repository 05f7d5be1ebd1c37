"""Tables of what the second half of examples/bert-masks.mk has measured: python tools/mask_figures.py WORK > tables.md.

WORK/<task>/<seed>/mask-<n>.jsonl are records of ``berttools mask-tune``, full.jsonl, head.jsonl and
mask-<n>.<kind>.jsonl those of ``berttools finetune``, and overlaps.jsonl those of ``berttools maskdiff --by model``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from critical_layers import Record, read, spread, table

BYTES = 4  # of a value that is stored as it is


def runs_of(task: Path) -> dict[str, dict[str, Record]]:
    """Give the last record of each run, by run and seed."""
    found: dict[str, dict[str, Record]] = {}
    for path in sorted(task.glob("*/*.jsonl")):
        run = path.name.removesuffix(".jsonl")
        if (run in ("full", "head") or run.startswith("mask-")) and (records := read(path)) and "path" in records[-1]:
            found.setdefault(run, {})[path.parent.name] = records[-1]
    return found


def title_of(run: str) -> str:
    """Say what a run learned."""
    if run in ("full", "head"):
        return {"full": "everything tuned", "head": "the head and the pooler tuned"}[run]
    place, _, kind = run.removeprefix("mask-").partition(".")
    if kind:
        return f"as many zeros as from {place}%, {'by lot' if kind == 'random' else 'of the smallest'}; a head on them"
    return f"masks from {place}% on" if place.isdecimal() else f"masks of {place} alone, from 10% on"


def order_of(run: str) -> tuple[int, int, str]:
    """Rank runs: what masks are measured by first, then by sparsity, then by group."""
    place, _, kind = run.removeprefix("mask-").partition(".")
    return (
        0 if run == "full" else 1 if run == "head" else 2 if not kind else 3,
        int(place) if place.isdecimal() else 99,
        run,
    )


def scores_table(task: Path) -> None:
    """Print what a task's masks score, and what they take."""
    found = runs_of(task)
    full = found.get("full", {})
    if not any(run.startswith("mask-") for run in found) or not full:
        return
    metric = next(iter(full.values()))["metric"]
    print(f"\n### {task.name}: {metric} x 100, seeds {', '.join(sorted(full))}\n")
    rows = []
    for run in sorted(found, key=order_of):
        records = found[run]
        beside = [
            record["score"] - full[seed]["score"]
            for seed, record in records.items()
            if seed in full and None not in (record["score"], full[seed]["score"])
        ]
        sparsity = spread([record.get("sparsity") for record in records.values()])
        # What is tuned on a mask takes that mask besides: no figure is its own.
        alone = [] if "." in run else records.values()
        kilobytes = spread([record.get("bytes", BYTES * record.get("stored", 0)) / 1e3 for record in alone], factor=1)
        rows.append(
            [title_of(run), spread([r["score"] for r in records.values()]), spread(beside), sparsity, kilobytes]
        )
    table(["learned", metric, "beside everything", "% zeroed", "kB a task"], rows)


def place_of(path: str) -> tuple[str, str, str]:
    """Give task, seed and sparsity of a mask's path."""
    task, seed, name = Path(path).parts[-3:]
    found = re.match(r"mask-(\d+)", name)
    return task, seed, found[1] if found else ""


def kinds_of(record: Record) -> Iterator[str]:
    """Say what two masks have in common and what not."""
    (task, seed, sparsity), (other_task, other_seed, other_sparsity) = (
        place_of(record[key]) for key in ("mask", "mask_b")
    )
    if task != other_task:
        if sparsity == other_sparsity:
            yield "another task"
    elif sparsity == other_sparsity:
        yield "another seed"
    elif seed == other_seed:
        yield "another initial sparsity"


def overlaps_table(path: Path) -> None:
    """Print what masks of one kind of difference have in common."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in read(path):
        for kind in kinds_of(record):
            sparsity = "" if "sparsity" in kind else f"{place_of(record['mask'])[2]}%"
            found.setdefault((kind, sparsity), []).append(record)
    print("\n### What two masks zero in common\n")
    rows = [
        [
            kind,
            sparsity or "any two",
            str(len(records)),
            spread([record["jaccard"] for record in records]),
            spread([record["overlap"] / max(1, record["overlap_expected"]) for record in records], 2, 1),
        ]
        for (kind, sparsity), records in sorted(
            found.items(), key=lambda each: (each[0][0], len(each[0][1]), each[0][1])
        )
    ]
    table(["beside a mask of", "from", "pairs", "Jaccard x 100", "overlap over chance"], rows)


def main(work: Path) -> None:
    """Print the tables."""
    for task in sorted(path for path in work.iterdir() if path.is_dir()):
        scores_table(task)
    if (work / "overlaps.jsonl").exists():
        overlaps_table(work / "overlaps.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
