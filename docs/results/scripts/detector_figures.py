"""Measure how well a detector separates cloaked from clean faces: the tables of docs/results/detector.md.

Usage: python docs/results/scripts/detector_figures.py WORK [DETECTOR [ATTACK ...]]

WORK is what detector_cloaks.py made; everything here is of people that no part of the training has seen. Prints
Markdown tables: cloaks saved as PNG; cloaks and clean photos after what happens to photos; clean photos that look odd.
Clean and cloaked photos go through the same saves and the same changes. DETECTOR is a file, by default the installed
one. With ATTACKs only their cloaks are scored, as PNG: how a detector does on an attack that it has not seen.

Intervals are 95%, over people: a bootstrap, or Wilson's where all faces or none are hits. An area of 1 has no interval:
no draw of these people would give another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from change_photos import main as change_photos
from cloak_figures import LEAST, run
from detector_cloaks import link
from facetools.metrics import area_interval, area_under_roc, calibration_bins, calibration_error, share_interval_over
from facetools.people import person_of
from facetools.transforms.augment import ODD

CLEAN, CROPS = "clean", "crops"
"""Names of clean photos, and of the clean ones among aligned crops, which were cut as their cloaked ones were."""

PHOTOS, CHANGED = 6, 2
"""Clean photos of each person, and how many of them are changed."""

MOST = 5
"""Cloaked photos of each person and kind that are changed."""

WAYS = ("jpeg:75", "resize:0.5", "resize:1.5", "crop", "screenshot")
"""What cloaks should survive."""


class Scored(NamedTuple):
    """Faces of one folder: scores, whose they are, the likeliest attacks."""

    scores: npt.NDArray[np.float64]
    people: list[str]
    attacks: list[str | None]
    threshold: float


def clean_photos(work: Path) -> None:
    """Copy clean photos of everybody who is kept for the figures through the saves that cloaks went through."""
    people = [sorted(folder.iterdir()) for folder in sorted((work / "figures" / "lfw").iterdir())]
    kept = [photos for photos in people if len(photos) >= LEAST]
    link((photo for photos in kept for photo in photos[:PHOTOS]), work / "sets" / CLEAN)
    words: list[str | Path] = ["perturb", "--resume", "--attack", "none", "--faces", "central", "--format", "png"]
    out = work / "unseen" / CLEAN
    run([*words, "--copy-faceless", "--in", work / "sets" / CLEAN, "--out", out], work / "records" / f"{CLEAN}.jsonl")


def folders(work: Path) -> dict[str, Path]:
    """Return the folders of cloaks by name."""
    made = [*(work / "unseen").iterdir(), *(work / "figures" / "cloaks").iterdir()]
    return {path.name: path for path in sorted(made) if path.name != CLEAN and not path.name.startswith("timed-")}


def changed(work: Path, name: str, folder: Path, way: str) -> Path:
    """Change some of a folder's photos, if that has not been done."""
    out = work / "changed" / way / name
    done = out.with_name(f"{out.name}.done")
    if not done.exists():
        few, source = CHANGED if name == CLEAN else MOST, work / "sets" / f"few-{name}"
        people = [person for person in folder.iterdir() if person.is_dir()]
        link((photo for person in people for photo in sorted(person.iterdir())[:few]), source)
        change_photos(way, source, out)
        done.touch()
    return out


def detect(detector: Path | None, wanted: Sequence[tuple[str, Path]]) -> dict[str, Scored]:
    """Score the faces of folders, crops and photos apart."""
    given = ["--detector", str(detector)] if detector else []
    found: dict[str, list[dict[str, object]]] = {name: [] for name, _ in wanted}
    for crops in (False, True):
        part = {str(path): name for name, path in wanted if ("crops" in name) is crops}
        if not part:
            continue
        words = [
            sys.executable,
            "-m",
            "facetools",
            "detect",
            *given,
            *(["--crops"] if crops else ["--faces", "central"]),
        ]
        words += [word for path in part for word in ("--in", path)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            record = json.loads(line)
            path = record["path"].removesuffix("/" + record["relative"])
            found[part[path]].append(record)
    return {name: _scored([r for r in records if r["score"] is not None]) for name, records in found.items()}


def _scored(records: Sequence[dict[str, object]]) -> Scored:
    scores = np.array([record["score"] for record in records], np.float64)
    people = [person_of(str(record["relative"])) for record in records]
    attacks = [None if record["attack"] is None else str(record["attack"]) for record in records]
    return Scored(scores, people, attacks, float(str(records[0]["threshold"])) if records else 0.5)


def area(clean: Scored, cloaked: Scored) -> str:
    """Write the area under the ROC curve with its interval over people."""
    scores = np.concatenate([clean.scores, cloaked.scores])
    labels = np.arange(len(scores)) >= len(clean.scores)
    _, groups = np.unique([*clean.people, *cloaked.people], return_inverse=True)
    found = area_under_roc(scores, labels)
    assert found is not None  # both are there
    low, high = area_interval(scores, labels, groups) or (float("nan"), float("nan"))
    return f"{found:.4f} ({low:.4f}-{high:.4f})" if found < 1 else "1.0000"


def alarms(scored: Scored) -> npt.NDArray[np.bool_]:
    """Test which faces are called cloaked."""
    return scored.scores >= scored.threshold


def share(*parts: Scored) -> str:
    """Write the share of faces that are called cloaked, with its interval over people."""
    hits = np.concatenate([alarms(part) for part in parts])
    _, people = np.unique([person for part in parts for person in part.people], return_inverse=True)
    low, high = share_interval_over(hits, people)
    return f"{hits.mean():.1%} ({low:.1%}-{high:.1%})"


def attack_of(name: str) -> str:
    """Return the attack whose cloaks a folder holds."""
    return next(attack for attack in ("lowkey", "fawkes-v0.3", "fawkes-v1.0", "opom", "tip-im") if attack in name)


def row(cells: Iterable[object]) -> None:
    """Print a table's row."""
    print("| " + " | ".join(map(str, cells)) + " |")


def head(title: str, *cells: str) -> None:
    """Print a table's head."""
    print(f"\n{title}\n")
    row(cells)
    row(["---"] * len(cells))


def cloaks_table(found: dict[str, Scored]) -> None:
    """Print what is made of each kind of cloak, and of each attack."""
    clean = found[CLEAN]
    photos = [name for name in found if name not in (CLEAN, CROPS)]
    head("Cloaks saved as PNG", "cloaks", "people", "faces", "AUC", "recall", "precision", "attack named")
    names = [name for name in photos if CROPS not in name]
    groups = {name: [name] for name in photos} | {
        f"**{attack}, all photos**": [name for name in names if attack_of(name) == attack]
        for attack in sorted({attack_of(name) for name in names})
    }
    for title, members in groups.items():
        parts = [found[name] for name in members]
        people = [person for part in parts for person in part.people]
        scores = np.concatenate([part.scores for part in parts])
        attacks = [attack for part in parts for attack in part.attacks]
        joined = Scored(scores, people, attacks, clean.threshold)
        beside = found[CROPS] if CROPS in title else clean
        # As many clean faces as cloaked ones: the clean ones are weighted.
        recall, wrong = alarms(joined).mean(), alarms(beside).mean()
        precision = f"{recall / (recall + wrong):.1%}" if recall + wrong else "-"
        right = sum(attack == attack_of(name) for name in members for attack in found[name].attacks if attack)
        cells = [
            title,
            len(set(people)),
            len(scores),
            area(beside, joined),
            share(joined),
            precision,
        ]
        row([*cells, f"{right / alarms(joined).sum():.1%}" if alarms(joined).any() else "-"])
    total = len(clean.scores)
    print(f"\nFalse alarms: {share(clean)} of {total} clean faces of {len(set(clean.people))} people", end="")
    if CROPS in found:
        crops = found[CROPS]
        print(f", {share(crops)} of {len(crops.scores)} clean crops", end="")
    print(f", at a threshold of {clean.threshold:g}.")
    cloaked = np.concatenate([found[name].scores for name in names])
    rng = np.random.default_rng(0)
    count = min(len(cloaked), total)
    both = np.concatenate([rng.choice(clean.scores, count, replace=False), rng.choice(cloaked, count, replace=False)])
    bins = calibration_bins(both, np.arange(2 * count) >= count)
    print(f"Calibration: expected error {calibration_error(bins):.4f} over {2 * count} faces, half of them cloaked.")


def main(work: Path, detector: Path | None, attacks: Sequence[str]) -> None:
    """Make what is missing and print the tables."""
    clean_photos(work)
    cloaks = folders(work)
    clean = [(CLEAN, work / "unseen" / CLEAN), (CROPS, work / "figures" / "crops2")]
    wanted = [*clean, *cloaks.items()]
    if attacks:
        wanted = [*clean, *((name, path) for name, path in cloaks.items() if attack_of(name) in attacks)]
        cloaks_table(detect(detector, wanted))
        return
    cloaks_table(detect(detector, wanted))
    head("The same after saving and scaling, and clean ones too", "cloaks", *WAYS)
    ways = [
        (f"{way} {name}", changed(work, name, path, way))
        for way in WAYS
        for name, path in wanted
        if "crops" not in name
    ]
    survived = detect(detector, ways)
    for name in [name for name, _ in wanted if "crops" not in name]:
        parts = [survived[f"{way} {name}"] for way in WAYS]
        row([name, *map(share, parts)])
    head("Clean photos that look odd: false alarms", "change", "faces", "false alarms")
    odd = detect(detector, [(way, changed(work, CLEAN, work / "unseen" / CLEAN, way)) for way in ODD])
    for way, scored in odd.items():
        row([way, len(scored.scores), share(scored)])
    row(["**all**", sum(len(scored.scores) for scored in odd.values()), share(*odd.values())])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None, sys.argv[3:])
