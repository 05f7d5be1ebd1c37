"""The command ``facetools align``."""

from __future__ import annotations

from functools import partial

from _toolio.cli import engines, options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.files.claims import claimed_part
from _toolio.files.overwriting import refuse_nested
from _toolio.lazy import uncollected
from _toolio.streams.inputs import count
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import parse_shard
from facetools.commands._fields import PROBLEM
from facetools.commands._options import (
    ExtractorOption,
    Faces,
    FacesOption,
    MinConfidence,
    MinFace,
    Rotations,
    face_search,
)
from facetools.commands._photos import open_photos, part_of
from facetools.commands._summary import FaceTally
from facetools.extractors.factory import DEFAULT
from facetools.intake_records import needing_work

SCHEMA = "facetools.align/1"
COLUMNS = ("path", "source", "face", "reason")
BATCH = 8
"""Photos that another process is sent at a time."""


def align(
    out: options.OutFolder,
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
    urls: options.Urls = False,
    extractor: ExtractorOption = DEFAULT,
    faces: FacesOption = Faces.all,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
) -> int:
    """Cut aligned chips of faces for an extractor.

    Writes one PNG (a chip) and one record a face. The record ranks by the finder's confidence and holds the
    landmarks in the chip, so that embed takes chips as they are.
    """
    chosen = engines.choose("facetools", engine, device, actors, gpus_per_actor)
    inputs = options.named(inputs, paths)
    refuse_nested(out, inputs)
    part = parse_shard(shard)
    search = face_search(faces, min_face, min_confidence, rotations=rotations)
    items = open_photos(inputs, all_files=all_files, null=null, urls=urls, shard=part)
    claim = claimed_part(out, "facetools-align", part_of(inputs, part))
    with claim, RecordWriter(SCHEMA, "confidence", COLUMNS, makes_files=True) as writer, chosen:
        with uncollected():
            from facetools.embeddings.chips import AlignmentWorker
            from facetools.outputs import PhotoFolder
            from facetools.workers.photos import process

        opening = partial(AlignmentWorker, extractor, search, 1)
        worker = opening(chosen.here)
        arguments = {"schema": SCHEMA, "extractor": worker.extractor.name, **search.arguments}
        tally = FaceTally()
        with PhotoFolder(out, "facetools-align", arguments, resume=resume, force=force) as folder:
            aligned = process(items, chosen, opening, worker, batch=BATCH, finished=folder.finished)
            tracked = track(aligned, "aligning", count(items), resumes=True)
            for photo in needing_work(writer, tracked, makes_files=True):
                for record in folder.deliver(writer, photo):
                    tally.add(record, photo.item.path)
        tally.failed = writer.failures
        writer.sum_up(tally.line(out))
        return writer.exit_code


PAGE = Page(
    fields={
        "confidence": "The finder's probability of a face, 0 to 1; null where none was found: also of faces by hand.",
        "path": "The chip, a PNG file.",
        "relative": "Where the chip lies below the output folder.",
        "source": "The photo.",
        "alignment": "Name of the alignment.",
        "face": "Number of the face in its photo, from 0, largest first; null where there is none.",
        "box": "The whole chip: x0, y0, x1, y1 in chip pixels.",
        "landmarks": "Their positions in the template, in chip pixels.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools align --in photos/ --out chips/ > chips.jsonl",
            "Cut the chips of every face below a folder.",
        ),
        (
            "facetools align --in photos/ --out chips/ |\n  facetools embed --in - --out x.safetensors > x.jsonl",
            "Cut and embed.",
        ),
    ),
)
