"""Print the tables of docs/results/masks.md from what examples/bert-masks.mk has measured.

Usage: python docs/results/scripts/mask_figures.py WORK BASE

WORK/<task>/<seed>/mask-<n>.jsonl and mask-<n>.long.jsonl are records of ``berttools mask-tune``; full.jsonl,
full.long.jsonl, head.jsonl and mask-<n>.<kind>.jsonl those of ``berttools finetune``; <run>.seconds the processor time
of a run; overlaps.jsonl records of ``berttools maskdiff --by model``. BASE says what other ways to tune would store.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import layer_and_group
from critical_layers import Record, read, spread, table

BYTES = 4  # of a value that is stored as it is
LONGER = ("long", "taught")  # kinds of masks that took three times the steps
WHOLE = {
    "full": "everything tuned",
    "full.long": "everything tuned, three times the steps",
    "head": "the head and the pooler tuned",
}


def runs_of(task: Path) -> dict[str, dict[str, Record]]:
    """Return the last record of each run, by run and seed."""
    found: dict[str, dict[str, Record]] = {}
    for path in sorted(task.glob("*/*.jsonl")):
        run = path.name.removesuffix(".jsonl")
        if (run in WHOLE or run.startswith("mask-")) and (records := read(path)) and "path" in records[-1]:
            took = path.with_suffix(".seconds")
            seconds = float(took.read_text()) if took.exists() else None
            found.setdefault(run, {})[path.parent.name] = {**records[-1], "seconds": seconds}
    return found


def parts_of(run: str) -> tuple[str, str]:
    """Return the sparsity or the group of a run's mask, and what else there is to it."""
    place, _, kind = run.removeprefix("mask-").partition(".")
    return place, kind


def title_of(run: str) -> str:
    """Describe what a run learned."""
    if run in WHOLE:
        return WHOLE[run]
    place, kind = parts_of(run)
    if kind in LONGER:
        return f"masks from {place}% on, three times the steps{', taught by everything tuned' * (kind == 'taught')}"
    if kind:
        return (
            f"as many zeros as from {place}%, {'at random' if kind == 'random' else 'of the smallest'}; a head on them"
        )
    return f"masks from {place}% on" if place.isdecimal() else f"masks of {place} alone, from 10% on"


def order_of(run: str) -> tuple[int, int, str]:
    """Rank runs: what masks are measured by first, then by sparsity, then by group."""
    place, kind = parts_of(run)
    return (
        list(WHOLE).index(run) if run in WHOLE else 3 if kind in ("", *LONGER) else 4,
        int(place) if place.isdecimal() else 99,
        run,
    )


def control_of(run: str) -> str:
    """Return the run that tunes everything in as many steps."""
    return "full.long" if run == "full.long" or parts_of(run)[1] in LONGER else "full"


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
        control = found.get(control_of(run), {})
        beside = [
            record["score"] - control[seed]["score"]
            for seed, record in records.items()
            if seed in control and None not in (record["score"], control[seed]["score"])
        ]
        sparsity = spread([record.get("sparsity") for record in records.values()])
        # What is tuned on a mask takes that mask besides: no figure is its own.
        alone = records.values() if run in WHOLE or parts_of(run)[1] in ("", *LONGER) else []
        kilobytes = spread([record.get("bytes", BYTES * record.get("stored", 0)) / 1e3 for record in alone], factor=1)
        seconds = spread([record["seconds"] for record in records.values()], digits=0, factor=1)
        scores = spread([record["score"] for record in records.values()])
        # The better of both is what was stored, and then its head was tuned once more.
        both = [
            spread([record.get(key) for record in records.values()]) for key in ("score_at_threshold", "score_of_draw")
        ]
        rows.append([title_of(run), str(len(records)), scores, spread(beside), *both, sparsity, kilobytes, seconds])
    table(
        [
            "learned",
            "seeds",
            metric,
            "beside everything in as many steps",
            "threshold",
            "one draw",
            "% zeroed",
            "kB a task",
            "s",
        ],
        rows,
    )


def sizes_table(base: Path) -> None:
    """Print what other ways to tune a base store of a task, heads left out."""
    tensors = open_checkpoint(base).tensors
    encoder = {name: each for name, each in tensors.items() if layer_and_group(name, each.shape).group}
    biases = sum(each.size for name, each in tensors.items() if name.endswith("bias") and "pooler" not in name)
    lora = sum(
        8 * sum(each.shape) for name, each in encoder.items() if layer_and_group(name, each.shape).group in ("Q", "V")
    )
    weights = sum(each.size for each in encoder.values())
    print("\n### What other ways store, without a head\n")
    counts = {
        "everything": sum(each.size for each in tensors.values()),
        "LoRA of rank 8 on Q and V (arXiv 2106.09685)": lora,
        "all biases (BitFit, arXiv 2106.10199)": biases,
        "a bit a weight of the masked matrices": weights / 8 / BYTES,
    }
    table(["stored", "kB"], [[name, f"{BYTES * count / 1e3:.1f}"] for name, count in counts.items()])


def place_of(path: str) -> tuple[str, str, str]:
    """Return task, seed and sparsity of a mask's path."""
    task, seed, name = Path(path).parts[-3:]
    found = re.match(r"mask-(\d+)", name)
    return task, seed, found[1] if found else ""


def kinds_of(record: Record) -> Iterator[str]:
    """Compare two masks: what they have in common and what not."""
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


def main(work: Path, base: Path) -> None:
    """Print the tables."""
    sizes_table(base)
    for task in sorted(path for path in work.iterdir() if path.is_dir()):
        scores_table(task)
    if (work / "overlaps.jsonl").exists():
        overlaps_table(work / "overlaps.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
