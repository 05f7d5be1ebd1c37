"""Measure what thresholds of one's own clean photos find: the tables of docs/results/detector.md.

Usage: python docs/results/scripts/own_clean.py CLEAN.jsonl NAME=CLOAKED.jsonl [NAME=CLOAKED.jsonl ...]

All are records of ``facetools detect``, of photos in a folder a person.
Each person's faces are judged by thresholds of the other people's clean faces, so that nobody is among those that
thresholds were chosen on; beside it what the records' own labels say.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from critical_layers import table
from facetools.detector.own_clean import OwnClean
from facetools.metrics import share_interval

Faces = list[tuple[float, str]]
"""Score and label of each face."""


def faces_of(path: Path) -> dict[str, Faces]:
    """Return the faces of each person, known by the folder of a photo below its input."""
    found = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["score"] is not None:
            found[PurePosixPath(record["relative"]).parent.name].append((record["score"], record["label"]))
    return found


def judged(clean: Mapping[str, Faces], faces: Mapping[str, Faces], rate: float | None) -> tuple[int, int]:
    """Return how many faces thresholds of other people's clean ones call cloaked, and unclear."""
    cloaked = unclear = 0
    for person, own in faces.items():
        others = [score for other, each in clean.items() if other != person for score, _ in each]
        limits = OwnClean(others, "others").thresholds(rate)
        cloaked += sum(score >= limits.cloaked_from for score, _ in own)
        unclear += sum(limits.clean_below <= score < limits.cloaked_from for score, _ in own)
    return cloaked, unclear


def row(name: str, clean: Mapping[str, Faces], faces: Mapping[str, Faces], rate: float | None) -> list[str]:
    """Return a row of the table: labels as they were, and by thresholds of other people's clean faces."""
    labels = [label for each in faces.values() for _, label in each]
    count = len(labels)
    usual = [labels.count("cloaked"), labels.count("unclear")]
    cells = [*usual, *judged(clean, faces, rate)]
    low, high = share_interval(cells[2], count)
    shown = [f"{cell / count:.1%}" for cell in cells]
    return [name, str(count), *shown[:2], f"{shown[2]} ({low:.1%}-{high:.1%})", shown[3]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clean", type=Path)
    parser.add_argument("cloaked", nargs="+")
    parser.add_argument("--false-alarms", type=float, help="the rate; default 0.005, or what the faces can tell")
    given = parser.parse_args(arguments)
    clean, rate = faces_of(given.clean), given.false_alarms
    rows = [row("clean", clean, clean, rate)]
    for text in given.cloaked:
        name, _, path = text.partition("=")
        rows.append(row(name, clean, faces_of(Path(path)), rate))
    columns = ("faces", "n", "cloaked", "unclear", "cloaked by own clean faces (95%)", "unclear by own")
    table(columns, rows)


if __name__ == "__main__":
    main()
