"""The command ``facetools plot``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from _toolio.charts import form_of
from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.files.atomic import atomic_write_bytes
from _toolio.files.claims import claimed
from _toolio.streams.records import RecordWriter

SCHEMA = "facetools.plot/1"
COLUMNS = (
    *("name", "auc_interval", "eer", "recall", "precision", "false_alarms", "interval", "flagged"),
    *("faces", "clean", "cloaked", "summary", "reason"),
)


class Kind(StrEnum):
    """Kind of figure."""

    roc = "roc"
    histogram = "histogram"
    calibration = "calibration"
    false_alarms = "false-alarms"


RANKS = {
    Kind.roc: "auc",
    Kind.histogram: "detected",
    Kind.calibration: "ece",
    Kind.false_alarms: "false_alarms",
}


def plot(
    kind: Annotated[
        Kind, typer.Option(help="Figure to draw; all but histogram need to know which faces are clean or cloaked.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write: .png, .svg or .pdf.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="Records of detect, or - for stdin. Default: stdin.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--in", "-i", metavar="FILE", help="The same as FILE; may be repeated.")
    ] = None,
    clean: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="Clean: a file of records; or the folder, .tar or pattern where photos of FILE lie."
        ),
    ] = None,
    cloaked: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH", help="Cloaked, named the same way, and by which cloak; repeat it for a curve each."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, callback=options.finite, help="Replaces the records' own."),
    ] = None,
    force: options.Force = False,
) -> int:
    """Draw ROC curves, histograms, calibration, false alarms.

    Reads records of detect and draws ROC curves with their AUC, histograms of scores, a reliability diagram, or what
    each threshold costs on your own clean photos: the share of their faces that it would label cloaked. One record a
    curve, with the numbers that it shows.

    Faces that no --cloaked names are clean, or the other way round; with both, faces that neither names are left out.
    Without both, the records' own field truth is read: clean, cloaked, or a cloak's name; detect passes it through.
    """
    form = form_of(out, force=force)
    from facetools.commands._plot import parse_truth
    from facetools.reporting.detector_scores import read_scores

    truth = parse_truth([*(files or ()), *(inputs or ())], clean or (), cloaked or ())
    with claimed(out, replace=force), RecordWriter(SCHEMA, RANKS[kind], COLUMNS, makes_files=True) as writer:
        from facetools.reporting.detector_figures import draw

        scores = read_scores(truth, threshold=threshold, progress=track)
        data, figures = draw(kind.value, scores, form)
        atomic_write_bytes(out, data)
        for fields in figures:
            writer.emit({**fields, "kind": kind.value, "path": str(out)})
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "auc": "roc: area under the ROC curve, the probability that a cloaked face scores higher than a clean one.",
        "detected": "histogram: share of faces labelled cloaked, with scores from the threshold on.",
        "ece": "calibration: expected calibration error, the mean distance of score and share of cloaked faces.",
        "name": "The cloak; clean for clean faces; null where labels are unknown.",
        "auc_interval": "95% bootstrap interval of auc; null of one group.",
        "over": "What the bootstrap resamples: people (folders, ten at least), else photos; of records "
        "without a path, faces.",
        "groups": "Number of them.",
        "eer": "Equal error rate: both error rates at the threshold where they are equal.",
        "threshold": "The records', or --threshold.",
        "recall": "Share of cloaked faces that are labelled cloaked (true positive rate).",
        "precision": "Share of cloaked faces among those labelled cloaked; null where there are none.",
        "false_alarms": "Share of clean faces that are labelled cloaked (false positive rate).",
        "interval": "false-alarms: Wilson's 95% interval of it.",
        "flagged": "false-alarms: number of clean faces that are labelled cloaked.",
        "summary": "false-alarms: the same in words.",
        "faces": "Number of faces.",
        "quartiles": "Of the scores.",
        "counts": "Faces in each of 40 bars from 0 to 1.",
        "bins": "score (mean), share (of cloaked faces), interval (Wilson's, 95%) and faces of each bin; up to ten "
        "bins of like numbers, no fewer than ten faces each.",
        "clean": "Number of clean faces.",
        "cloaked": "Number of faces of this cloak.",
        "left_out": "Numbers of records that count nowhere: failed, without_score, without_truth, and repeated (the "
        "same face and score again).",
        "kind": "roc, histogram, calibration or false-alarms.",
        "path": "The picture.",
        "reason": "Why there is no threshold.",
    },
    examples=(
        (
            "facetools detect --in photos/ > scores.jsonl\n"
            "facetools plot scores.jsonl --kind histogram --out x.png > x.jsonl",
            "The distribution of scores.",
        ),
        (
            "facetools detect --in control/ --in cloaked/ > scores.jsonl\n"
            "facetools plot scores.jsonl --kind roc --cloaked cloaked/ --out roc.png > roc.jsonl",
            "ROC curve: what does not lie in cloaked/ is clean.",
        ),
        (
            "facetools detect --in control/ > clean.jsonl\n"
            "facetools detect --in cloaked/ > lowkey.jsonl\n"
            "facetools plot --kind calibration --clean clean.jsonl --cloaked lowkey=lowkey.jsonl \\\n"
            "  --out calibration.svg > calibration.jsonl",
            "Whether scores are probabilities, from a file each; --cloaked is given once for each cloak.",
        ),
        (
            "facetools detect --in photos/ > scores.jsonl\n"
            "facetools plot --kind false-alarms --clean scores.jsonl --out alarms.png > alarms.jsonl",
            "How many of your own clean photos each threshold would flag.",
        ),
    ),
)
