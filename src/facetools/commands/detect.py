"""The command ``facetools detect``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import engines, options
from _toolio.cli.manual import Page, exit_status
from _toolio.cli.progress import track
from _toolio.lazy import uncollected
from _toolio.streams.inputs import count
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import parse_shard
from facetools.commands._detect import CleanScores, Summary
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import (
    Crops,
    LookedAt,
    LookedAtOption,
    MinConfidence,
    MinFace,
    MostFalseAlarms,
    Rotations,
    Threshold,
    face_search,
)
from facetools.commands._photos import open_photos, say_if_halved
from facetools.intake_records import hand_on, without_reason

SCHEMA = "facetools.detect/1"
COLUMNS = ("label", "path", "face", "reason")


def detect(
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
    urls: options.Urls = False,
    faces: LookedAtOption = LookedAt.all,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    false_alarms: MostFalseAlarms = None,
    threshold: Threshold = None,
    clean_scores: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Records of detect, of clean photos of the same camera or site: label by thresholds that they set, "
            "instead of the detector's. Repeatable.",
        ),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A detector from train-detector. Default: the one installed.")
    ] = None,
    fail_on_detection: Annotated[
        bool, typer.Option("--fail-on-detection", help="Exit 4 if a face is cloaked.")
    ] = False,
    batch: options.Batch = 8,
    device: options.Device = "auto",
    shard: options.Shard = None,
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
) -> int:
    """Predict which photos are cloaked.

    One record a face. The score runs from 0 (clean) to 1 (cloaked). A photo without a face gives a record with
    a null score and a reason; a file that is no photo gives a record with an error, and the run goes on and
    exits 3.

    A face is labelled cloaked from the score on that at most the share --false-alarms of clean faces reaches (0.5 at
    least), clean below the score that at most ten times that share reaches (0.1 to 0.5), and unclear between. A face
    with too little detail to show a cloak is unclear too, unless it is cloaked.

    With --clean-scores a face is cloaked where its p-value, the share of your clean faces that score as high, is at
    most --false-alarms, and unclear up to ten times that. It takes 199 clean faces for 0.5%, and 19 at least, of
    photos like those looked at, scored with the same detector and options.
    """
    chosen = engines.choose("facetools", engine, device, actors, gpus_per_actor)
    inputs = options.named(inputs, paths)
    search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
    items = open_photos(inputs, all_files=all_files, null=null, urls=urls, shard=parse_shard(shard))
    summary, detected = Summary(), False
    columns = ("p_value", *COLUMNS) if clean_scores else COLUMNS
    with RecordWriter(SCHEMA, "score", columns) as writer, chosen:
        from facetools.detector.files import SHIPPED, read_calibration

        path = detector or SHIPPED
        clean = CleanScores(clean_scores) if clean_scores else None
        reference = clean.reference if clean else None
        calibration = read_calibration(path)
        decision = calibration.decision(false_alarms=false_alarms, threshold=threshold, reference=reference)
        with uncollected():
            from facetools.detector.decision import describe_prediction, reason_of
            from facetools.detector.worker import DetectionWorker
            from facetools.faces.face import describe_face
            from facetools.workers.photos import Processed, process

        opening = partial(DetectionWorker, path, search, batch)
        worker = opening(chosen.here)
        if clean:
            clean.check_model(worker.detector.name)
            clean.say(calibration.at(), asked=false_alarms is not None)
        described = partial(describe_prediction, decision=decision, reference=reference)
        limits = {"threshold": decision.cloaked_from, "clean_below": decision.clean_below}
        predicted = process(items, chosen, opening, worker, batch=batch)
        for each in track(predicted, "detecting", count(items)):
            if not isinstance(each, Processed):
                hand_on(writer, each)
                continue
            item, found = each.item, each.made
            about = {**limits, "path": item.path, "relative": item.relative, "model": worker.detector.name}
            about |= {"notes": list(found.notes)} if found.notes else {}
            if found.no_face:
                none = {**described(None), **about, "face": None, "reason": found.no_face}
                writer.emit(none, through=without_reason(item.record, "p_value"))
            labels = []
            for position, (prediction, face, number) in enumerate(found.faces):
                fields = {**described(prediction), **about, **describe_face(face, number)}
                fields |= {"reason": reason} if (reason := reason_of(prediction, decision, face.box)) else {}
                writer.emit(fields, through=without_reason(each.record_of(position), "p_value"))
                labels.append(fields["label"])
            summary.add(labels)
            detected |= "cloaked" in labels
        say_if_halved(chosen, batch)
        writer.sum_up(summary.line(writer.failures))
    return writer.exit_code or (4 if fail_on_detection and detected else 0)


PAGE = Page(
    fields={
        "score": "Probability that the face is cloaked, 0 to 1; null where there is no face.",
        "label": "cloaked, unclear or clean; null where there is no score.",
        "attack": "The likeliest attack of a face labelled cloaked; null where it would be right too seldom.",
        "attacks": "The score divided among the attacks that the detector knows.",
        "power": "Probability that a usual cloak would be seen in this face.",
        "p_value": "With --clean-scores: the share of those faces that score as high, this one counted among them.",
        "threshold": "Scores from here on are labelled cloaked.",
        "clean_below": "Scores below are labelled clean where there is detail enough; up to threshold, unclear.",
        "path": "The photo; archive.tar/member in an archive.",
        "relative": "Where the photo lies below the input.",
        "model": "The detector: its name and the beginning of its sha256.",
        "notes": "Which part of the file alone was searched, if it holds more: first frame of an animation.",
        **FACE,
        **PROBLEM,
        "reason": "Why there is no score, or why the label is unclear.",
    },
    examples=(
        ("facetools detect --in photos/ > scores.jsonl", "Score every face below a folder."),
        (
            "find photos -name '*.jpg' -print0 | facetools detect -0 --in - | sort -r | head",
            "The ten that look most cloaked.",
        ),
        ("facetools detect photos/*.jpg | sort -r | head -3", "Without --in, as arguments."),
        (
            "facetools detect --in clean/ > clean.jsonl\n"
            "facetools detect --in photos/ --clean-scores clean.jsonl > scores.jsonl",
            "With thresholds by your own clean photos, of the same camera or site.",
        ),
        ("facetools detect --in upload.jpg --fail-on-detection > /dev/null", "Exit 4 if a photo is cloaked."),
    ),
    exit_status=exit_status("4 a face is cloaked and --fail-on-detection is given (3 comes before 4),"),
)
