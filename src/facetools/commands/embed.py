"""The command ``facetools embed``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_existing, refuse_link
from _toolio.streams.inputs import count
from _toolio.streams.records import Order, RecordWriter
from _toolio.streams.shards import file_of_shard, parse_shard
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
from facetools.extractors.factory import DEFAULT
from facetools.intake_records import hand_on

SCHEMA = "facetools.embed/1"
COLUMNS = ("path", "face", "reason")


def embed(
    out: options.OutFile,
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
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
) -> int:
    """Embed faces.

    Writes a safetensors file, and one record a face that names its row there. The file holds one tensor,
    embeddings, float32 [faces, dimensions]; it is written when all inputs are done, and the records follow. Each
    of several parts (--shard) writes its own file: X.safetensors becomes X.2-of-8.safetensors. An input record with
    landmarks, as align and perturb write them, stands for that one face, which is not searched for again.
    """
    inputs = options.named(inputs, paths)
    part = parse_shard(shard)
    out = file_of_shard(out, part)
    if part != (1, 1):
        refuse_link(out)
    refuse_existing(out, force=force)
    search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
    items = open_photos(inputs, all_files=all_files, null=null, shard=part)
    with ExitStack() as settings:
        settings.enter_context(claimed(out, replace=force))
        writer = settings.enter_context(RecordWriter(SCHEMA, "row", COLUMNS, order=Order.made, makes_files=True))
        from _toolio.compute.device import one_thread, pick_device, share_out
        from _toolio.compute.memory import Batch
        from facetools.embeddings.embedder import Embedder
        from facetools.embeddings.files import write_embeddings
        from facetools.extractors.factory import open_extractor
        from facetools.intake import Intake, work_on

        place = pick_device(device)
        workers, together = share_out(place, batch)
        at_once = Batch(together)
        settings.enter_context(one_thread(place))  # each of the workers: the last bits depend on how many there are
        embedder = Embedder(open_extractor(extractor, place), batch=at_once, file=out)
        pending: list[Callable[[], object]] = []
        tally = FaceTally()
        prepared = work_on(embedder.prepare, items, place, workers=workers, batch=at_once, faces=search)
        for intake, found in track(prepared, "embedding", count(items)):
            if isinstance(intake, Intake):
                for position, fields in enumerate(embedder.add(intake, found)):
                    tally.add(fields, intake.item.path)
                    pending.append(partial(writer.emit, fields, through=intake.record_of(position)))
            else:
                pending.append(partial(hand_on, writer, intake))
        embeddings, made = embedder.finish()
        say_if_halved(at_once, together)
        write_embeddings(out, embeddings, {"version": tool_version(), "arguments": search.arguments, **made})
        for write_line in pending:
            write_line()
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
