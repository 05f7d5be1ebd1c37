"""The command ``facetools embed``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from _toolio.cli import engines, options
from _toolio.cli.manual import Page
from _toolio.cli.messages import note
from _toolio.cli.progress import track
from _toolio.errors import UsageError, param, spelled
from _toolio.files.claims import claimed, claimed_part
from _toolio.files.overwriting import refuse_existing, refuse_link
from _toolio.lazy import uncollected
from _toolio.streams.current import is_in_a_folder_of_shards, output_of_shard
from _toolio.streams.inputs import count
from _toolio.streams.records import Order, RecordWriter
from _toolio.streams.shards import parse_shard
from _toolio.version import tool_version
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import (
    Crops,
    ExtractorOption,
    Faces,
    FacesOption,
    MinConfidence,
    MinFace,
    Rotations,
    face_search,
)
from facetools.commands._photos import open_photos, say_if_halved
from facetools.commands._summary import FaceTally
from facetools.embeddings.parts.manifest import clear_parts, refuse_folder
from facetools.extractors.factory import DEFAULT
from facetools.intake_records import hand_on

SCHEMA = "facetools.embed/1"
COLUMNS = ("path", "face", "reason")

RowsPerPart = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Write a folder of parts of N rows; a photo's faces stay together. Default: one file."
    ),
]


def embed(
    out: options.ShardOutFile = None,
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
    urls: options.Urls = False,
    extractor: ExtractorOption = DEFAULT,
    faces: FacesOption = Faces.all,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    batch: options.Batch = 8,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
    rows_per_part: RowsPerPart = None,
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
) -> int:
    """Embed faces.

    Writes a safetensors file, and one record a face that names its row there. The file holds one tensor,
    embeddings, float32 [faces, dimensions]; it is written when all inputs are done, and the records follow. Each
    of several parts (--shard) writes its own file: X.safetensors becomes X.2-of-8.safetensors. An input record with
    landmarks, as align and perturb write them, stands for that one face, which is not searched for again.

    With --rows-per-part, --out is a folder: part-00000.safetensors and so on, each written when it is full and its
    records behind it, so that memory does not grow with the faces; at the end manifest.json with each part's rows and
    sha256. Whatever reads a file of embeddings reads such a folder as one.

    With --into each shard writes its file beside its records, and `facetools gather` makes one of all.
    """
    chosen = engines.choose("facetools", engine, device, actors, gpus_per_actor)
    inputs = options.named(inputs, paths)
    part = parse_shard(shard)
    out, force = output_of_shard(out, part, ".safetensors", force=force)
    if part != (1, 1):
        refuse_link(out)
    in_parts = rows_per_part is not None
    if in_parts and is_in_a_folder_of_shards():
        raise UsageError(f"{param('rows_per_part')}: shards of {param('into')} are parts already; leave it out")
    if in_parts:
        refuse_folder(out, force=force)
    else:
        refuse_existing(out, force=force)
    search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
    items = open_photos(inputs, all_files=all_files, null=null, urls=urls, shard=part)
    claim = claimed_part(out, "facetools-embed", "parts") if in_parts else claimed(out, replace=force)
    with claim, RecordWriter(SCHEMA, "row", COLUMNS, order=Order.made, makes_files=True) as writer, chosen:
        with uncollected():
            from _toolio.compute.memory import Batch
            from facetools.embeddings.embedder import Embedder, EmbeddingWorker
            from facetools.embeddings.parts.writer import EmbeddingWriter
            from facetools.workers.photos import Processed, process

        opening = partial(EmbeddingWorker, extractor, search, batch)
        worker = opening(chosen.here)
        embedder = Embedder(worker.extractor, batch=Batch(batch), file=out)
        if in_parts:
            clear_parts(out)
        about = {"version": tool_version(), "arguments": search.arguments}
        output = EmbeddingWriter(out, embedder, about, rows_per_part=rows_per_part)
        tally = FaceTally()
        embedded = process(items, chosen, opening, worker, batch=batch)
        for each in track(embedded, "embedding", count(items)):
            if isinstance(each, Processed):
                for position, fields in enumerate(output.add(each.made)):
                    tally.add(fields, each.item.path)
                    output.then(partial(writer.emit, fields, through=each.record_of(position)))
            else:
                output.then(partial(hand_on, writer, each))
        try:
            output.close()
        except KeyboardInterrupt:
            if output.is_whole:
                lacks = f"{out} is whole, but not all of its records were printed"
                note("facetools", spelled(f"{lacks}; the same with {param('force')} makes both again"))
            raise
        say_if_halved(chosen, batch)
        tally.failed = writer.failures
        writer.sum_up(tally.line(out))
        return writer.exit_code


PAGE = Page(
    fields={
        "row": "Row of the embedding in the file; null where there is no face.",
        "file": "The safetensors file.",
        "path": "The photo.",
        "relative": "Its path below the input.",
        "sha256": "Of the photo's bytes.",
        "extractor": "The extractor that embedded it.",
        **FACE,
        **PROBLEM,
    },
    examples=(
        (
            "facetools embed --in photos/ --out clean.safetensors > clean.jsonl",
            "Embed every face below a folder.",
        ),
        (
            "facetools perturb --attack lowkey --in photos/ --out cloaked/ |\n"
            "  facetools embed --in - --out cloaked.safetensors > cloaked.jsonl",
            "Cloak photos and embed the same faces of the results.",
        ),
    ),
)
