"""Measure what thresholds by clean scores find (facetools detect --clean-scores): tables of docs/results/detector.md.

Usage: python docs/results/scripts/reference_thresholds.py CLEAN.jsonl NAME=CLOAKED.jsonl [NAME=CLOAKED.jsonl ...]

All are records of ``facetools detect`` by the shipped detector, of photos in a folder a person. People are divided in
two halves by their hashes: the clean faces of one set the thresholds by which the faces of the other are labelled, and
the other way round. Beside it what the detector's own thresholds say, for its default rate and for the one that a half
can tell. Intervals are over people.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from critical_layers import table
from facetools.detector.decision import CLOAKED, UNCLEAR, Decision, Prediction
from facetools.detector.files import SHIPPED, read_calibration
from facetools.detector.reference import Reference
from facetools.metrics import share_interval_over
from facetools.people import lot_of, person_of

CALIBRATION = read_calibration(SHIPPED)


Face = tuple[str, Prediction]
"""A person, and what is predicted of a face."""


def faces_of(path: Path) -> list[Face]:
    """Return the faces of records."""
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        (person_of(each["relative"]), Prediction(each["score"], each["attacks"], each["power"]))
        for each in records
        if each["score"] is not None
    ]


def cell(faces: Sequence[Face], halves: Mapping[str, int], decisions: Sequence[Decision]) -> str:
    """Return the share of faces that are cloaked, by the decision for their half, with its interval; and unclear."""
    labels = np.array([decisions[halves[person]].label(prediction) for person, prediction in faces])
    groups = np.unique([person for person, _ in faces], return_inverse=True)[1]
    low, high = share_interval_over(labels == CLOAKED, groups)
    return f"{(labels == CLOAKED).mean():.1%} ({low:.1%}-{high:.1%}), {(labels == UNCLEAR).mean():.1%}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clean", type=Path)
    parser.add_argument("cloaked", nargs="+")
    given = parser.parse_args(arguments)
    kinds = {"clean": faces_of(given.clean)}
    kinds |= {name: faces_of(Path(path)) for name, _, path in (text.partition("=") for text in given.cloaked)}
    people = sorted({person for faces in kinds.values() for person, _ in faces}, key=lambda name: lot_of(name, 0))
    halves = {person: number % 2 for number, person in enumerate(people)}
    references = [
        Reference([prediction.score for person, prediction in kinds["clean"] if halves[person] != half], f"half {half}")
        for half in (0, 1)
    ]
    rate = max(CALIBRATION.false_alarms, *(each.least_rate for each in references))
    usual, same = ([CALIBRATION.decision(false_alarms=each)] * 2 for each in (None, rate))
    own = [CALIBRATION.decision(false_alarms=rate, reference=each) for each in references]
    rows = [
        [name, str(len(faces)), *(cell(faces, halves, decisions) for decisions in (usual, same, own))]
        for name, faces in kinds.items()
    ]
    by = " and ".join(str(len(each)) for each in references)
    table(("faces", "n", f"{CALIBRATION.false_alarms:.1%}", f"{rate:.1%}", f"{rate:.1%}, by {by} clean faces"), rows)


if __name__ == "__main__":
    main()
