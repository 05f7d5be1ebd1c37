"""The command ``facetools plot``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.charts import form_of
from _toolio.cli.manual import Page
from _toolio.files.atomic import atomic_write_bytes
from _toolio.streams.records import RecordWriter

SCHEMA = "facetools.plot/1"
COLUMNS = ("name", "auc_interval", "eer", "recall", "precision", "false_alarms", "faces", "clean", "cloaked", "reason")


class Kind(StrEnum):
    """What is drawn of scores."""

    roc = "roc"
    histogram = "histogram"
    calibration = "calibration"


RANKS = {Kind.roc: "auc", Kind.histogram: "detected", Kind.calibration: "ece"}


def plot(
    kind: Annotated[Kind, typer.Option(help="What to draw; all but histogram need to know what is cloaked.")],
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
            metavar="[NAME=]PATH", help="Cloaked, told the same way, and by what; repeat it for a curve each."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, callback=options.finite, help="Instead of the one that records have."),
    ] = None,
    force: options.Force = False,
) -> int:
    """Draw what a detector's scores are worth.

    Reads records of detect and draws a ROC curve with its AUC, the distribution of scores, or how well a score tells
    the chance of a cloak. One record a curve, with the numbers that it shows.

    What no --cloaked names is clean, or the other way round; with both, what neither names is left out. Without
    both, the records' own field truth tells: clean, cloaked, or a cloak's name; detect hands it through.
    """
    form = form_of(out, force=force)
    from facetools.commands._plot import parse_truth
    from facetools.reporting.detector_scores import read_scores

    truth = parse_truth([*(files or ()), *(inputs or ())], clean or (), cloaked or ())
    with RecordWriter(SCHEMA, RANKS[kind], COLUMNS, makes_files=True) as writer:
        from facetools.reporting.detector_figures import draw

        scores = read_scores(truth, threshold=threshold)
        data, figures = draw(kind.value, scores, form)
        atomic_write_bytes(out, data)
        for fields in figures:
            writer.emit({**fields, "kind": kind.value, "path": str(out)})
        return writer.exit_code


PAGE = Page(
    fields={
        "auc": "roc: the chance that a cloaked face scores higher than a clean one; area under the ROC curve.",
        "detected": "histogram: share of the faces that score the threshold or more.",
        "ece": "calibration: how far score and share of cloaked faces are apart, the mean over faces.",
        "name": "The cloak; clean for clean faces; null where nothing tells what is cloaked.",
        "auc_interval": "95% bootstrap interval of auc; null of one group.",
        "over": "What the bootstrap draws: people (folders, ten at least), else photos; of records "
        "without a path, faces.",
        "groups": "How many of them there are.",
        "eer": "Share of errors at the threshold where as many cloaked faces are missed as clean ones labelled "
        "cloaked.",
        "threshold": "The records', or --threshold.",
        "recall": "Share of cloaked faces that score the threshold or more.",
        "precision": "Share of cloaked faces among those; null where there are none.",
        "false_alarms": "Share of clean faces that score the threshold or more.",
        "faces": "How many there are.",
        "quartiles": "Of the scores.",
        "counts": "Faces in each of 40 bars from 0 to 1.",
        "bins": "score (mean), share (of cloaked faces), interval (Wilson's, 95%) and faces of each bin; up to ten "
        "bins of like numbers, no fewer than ten faces each.",
        "clean": "How many clean faces there are.",
        "cloaked": "How many faces of this cloak.",
        "left_out": "Records that count nowhere: failed, without_score, without_truth, and repeated (the same face "
        "and score once more).",
        "kind": "roc, histogram or calibration.",
        "path": "The picture.",
        "reason": "Why there is no threshold.",
    },
    examples=(
        (
            "facetools detect --in photos/ > scores.jsonl\n"
            "facetools plot scores.jsonl --kind histogram --out x.png > x.jsonl",
            "How scores are spread.",
        ),
        (
            "facetools detect --in control/ --in cloaked/ > scores.jsonl\n"
            "facetools plot scores.jsonl --kind roc --cloaked cloaked/ --out roc.png > roc.jsonl",
            "How well they tell cloaked from clean: what does not lie in cloaked/ is clean.",
        ),
        (
            "facetools detect --in control/ > clean.jsonl\n"
            "facetools detect --in cloaked/ > lowkey.jsonl\n"
            "facetools plot --kind calibration --clean clean.jsonl --cloaked lowkey=lowkey.jsonl \\\n"
            "  --out calibration.svg > calibration.jsonl",
            "Whether a score is a chance, from a file each; --cloaked is given once for each cloak.",
        ),
    ),
)
