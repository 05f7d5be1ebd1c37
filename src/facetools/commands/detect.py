"""The command ``facetools detect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio import options
from _toolio.paths import count, open_items, parse_shard
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools.commands._shared import Faces, FacesOption, MinFace, needing_work

SCHEMA = "facetools.detect/1"
COLUMNS = ("label", "path", "face", "reason")


def detect(
    inputs: options.Inputs = None,
    null: options.Null = False,
    faces: FacesOption = Faces.all,
    min_face: MinFace = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            callback=options.finite,
            help="Label a face cloaked from this score on. Default: the detector's own.",
        ),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A detector from train-detector. Default: the one installed.")
    ] = None,
    fail_on_detection: Annotated[
        bool, typer.Option("--fail-on-detection", help="Exit 4 if a face is cloaked.")
    ] = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
) -> int:
    """Tell cloaked photos from clean ones.

    One record a face. The score runs from 0 (clean) to 1 (cloaked). A photo without a face gives a record with
    a null score and a reason; a file that is no photo gives a record with an error, and the run goes on and
    exits 3.
    """
    items = open_items(inputs, null=null, shard=parse_shard(shard))
    with RecordWriter(SCHEMA, "score", COLUMNS) as writer:
        from _toolio.device import pick_device
        from facetools.detector import SHIPPED, describe_verdict, open_detector
        from facetools.intake import describe_face, take_in

        place = pick_device(device)
        judge = open_detector(detector or SHIPPED, place)
        limit = judge.threshold if threshold is None else threshold
        detected = False
        intakes = take_in(track(items, "detecting", count(items)), place, faces=faces.value, min_face_px=min_face)
        for intake in needing_work(writer, intakes):
            item = intake.item
            about = {"threshold": limit, "path": item.path, "relative": item.relative, "model": judge.name}
            if not intake.faces:
                none = {**describe_verdict(None, limit), **about, "face": None, "reason": "no face found"}
                writer.emit(none, through=item.record)
            for position, (face, number) in enumerate(zip(intake.faces, intake.numbers, strict=True)):
                verdict = judge.judge(intake.photo.pixels, face)
                detected |= verdict is not None and verdict.score >= limit
                fields = {**describe_verdict(verdict, limit), **about, **describe_face(face, number)}
                if verdict is None:
                    fields["reason"] = "too little of the face is in the photo"
                writer.emit(fields, through=intake.record_of(position))
        return writer.exit_code or (4 if fail_on_detection and detected else 0)
