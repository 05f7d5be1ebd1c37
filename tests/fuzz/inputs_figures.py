"""Damaged records of what was measured, and what reports, plots, thresholds and metrics make of them."""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from _toolio.errors import InputError, ToolError
from berttools.texts.evaluation import NEEDED, Evaluation
from berttools.texts.rows import parse_columns, rows_of
from facetools.reporting import detector_figures
from facetools.reporting.detector_alarms import false_alarms
from facetools.reporting.detector_scores import Truth, read_clean_scores, read_scores
from facetools.reporting.folder import Report
from facetools.reporting.results import read_findings
from facetools.reporting.tables import markdown, tidy_csv
from fuzzing import fuzz, mutated, mutated_json
from report_records import evaluated, failures

NAME = "figures"
DRAWN = 0.03
"""Share of rounds that draw charts too, which takes a hundred times as long."""

FACE = {
    "score": 0.25, "schema": "facetools.detect/1", "label": "clean", "path": "a.jpg", "relative": "a.jpg", "face": 0,
    "threshold": 0.8, "false_alarms": 0.005, "model": "d", "truth": "clean", "box": [1, 2, 30, 40],
}  # fmt: skip
TEXT = {"confidence": 0.9, "schema": "berttools.predict/1", "text": "x", "label": "yes", "gold": "no", "labels": ["no",
        "yes"], "task": "t"}  # fmt: skip
VALUE = {"label": 0.9, "schema": "berttools.predict/1", "text": "x", "gold": 1.5}
EPOCH = {"loss": 0.5, "schema": "facetools.train-robust/1", "epoch": 1, "protection": 0.4, "clean_accuracy": 0.9}


def _damaged(path: Path, records: list[dict[str, Any]], rng: random.Random) -> Path:
    """Write records, up to three of them damaged."""
    lines = [json.dumps(record) for record in records]
    for _ in range(rng.choice((1, 1, 3))):
        number = rng.randrange(len(lines))
        lines[number] = json.dumps(mutated_json(records[number], rng))
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(mutated(data, rng) if rng.random() < 0.1 else data)
    return path


def _results(folder: Path, rng: random.Random) -> None:
    records = rng.choice((RESULTS, RESULTS, [EPOCH, {**EPOCH, "epoch": 2}, *RESULTS[-2:]]))
    findings = read_findings([str(_damaged(folder / "r.jsonl", records, rng))])
    markdown(findings, "title")
    tidy_csv(findings)
    if rng.random() < DRAWN:
        list(Report(findings, "title").write(folder / "report"))


def _scores(folder: Path, rng: random.Random) -> None:
    people, records = "abcdefghij", []
    for number in range(20):
        name = f"{people[number // 2]}/{number}.jpg"
        truth = rng.choice(("clean", "lowkey"))
        records.append({**FACE, "score": rng.random(), "path": name, "relative": name, "truth": truth})
    path = _damaged(folder / "s.jsonl", records, rng)
    told = rng.random() < 0.5
    places = [("--clean x", re.compile("[ab]/"), "clean")] if told else []
    scores = read_scores(Truth([(str(path), None)], places, "lowkey" if told else None, told))
    for kind in (detector_figures.roc, detector_figures.histogram, detector_figures.calibration, false_alarms):
        if rng.random() < DRAWN:
            kind(scores)
    for cloak in range(1, len(scores.cloaks) + 1) if (scores.kinds == 0).any() else ():
        detector_figures.roc_figures(scores, cloak)


def _clean(folder: Path, rng: random.Random) -> None:
    records = [{**FACE, "score": number / 20, "face": number} for number in range(20)]
    read_clean_scores([_damaged(folder / "c.jsonl", records, rng)])


def _metrics(folder: Path, rng: random.Random) -> None:
    one, other = rng.choice(((TEXT, {**TEXT, "gold": "yes"}), (VALUE, {**VALUE, "gold": 0.5})))
    path, evaluation = _damaged(folder / "p.jsonl", [one, other, one, other], rng), Evaluation()
    for row in rows_of(str(path), parse_columns(None), needed=NEEDED):
        if row.error is None:
            evaluation.add(row.fields, row.where)
    for result in evaluation.results(draws=5):
        json.dumps([result.value, result.interval, result.chance, result.labels], allow_nan=False)
    list(evaluation.doubts())


def try_one(rng: random.Random) -> str:
    """Damage some records of one kind, and make figures of them."""
    kind = rng.choice((_results, _scores, _clean, _metrics))
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, warnings.catch_warnings():
        warnings.simplefilter("error")  # it would be written to stderr
        try:
            kind(Path(folder), rng)
        except (ToolError, InputError) as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            return f"{kind.__name__[1:]} refused"
    return f"{kind.__name__[1:]} read"


def prepare(folder: Path) -> None:
    """Make the records of an evaluation."""
    global RESULTS
    RESULTS = [*evaluated(folder / "evaluated"), *failures()]


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
