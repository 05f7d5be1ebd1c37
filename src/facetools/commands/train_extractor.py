"""The command ``facetools train-extractor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.compute.distributed import count_processes, device_of, failing_together, hush, join
from _toolio.errors import UsageError, param
from _toolio.files.checkpoint_names import checkpoint_beside
from _toolio.files.claims import claimed
from _toolio.files.overwriting import checkpoint_of, refuse_existing
from _toolio.lazy import uncollected
from _toolio.progress import no_progress
from _toolio.streams.inputs import STDIN, count
from _toolio.streams.records import Order, RecordWriter
from _toolio.version import tool_version
from facetools.commands._fields import PROBLEM
from facetools.commands._options import (
    ExtractorOption,
    HeldOut,
    MinConfidence,
    MinFace,
    OneFace,
    Rotations,
    face_search,
)
from facetools.commands._photos import open_photos
from facetools.commands._training import report_to
from facetools.extractors.factory import DEFAULT

SCHEMA = "facetools.train-extractor/1"
COLUMNS = ("epoch", "loss", "auc", "teacher_auc", "path", "reason")


@failing_together
def train_extractor(
    out: options.OutFile,
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
    urls: options.Urls = False,
    teacher: ExtractorOption = DEFAULT,
    held_out: HeldOut = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the photos.")] = 30,
    batch: Annotated[int, typer.Option(min=2, help="Faces a step.")] = 64,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, max=1.0, callback=options.finite, help="Peak of the one-cycle schedule.")
    ] = 3e-3,
    identity_weight: Annotated[
        float, typer.Option(min=0.0, callback=options.finite, help="Weight of the classification of people.")
    ] = 0.1,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Train a small extractor with another one as its teacher.

    Trains a MobileFaceNet on photos of people, in folders named after them, to reproduce the embeddings of a teacher
    (--extractor) and to classify the people. Writes an extractor file, and one record an epoch on held-out
    people. After each epoch it writes FILE.checkpoint, from which --resume goes on; it is removed at the end. Runs
    under torchrun on several devices.
    """
    inputs = options.named(inputs, paths)
    processes = count_processes()
    if processes.world > 1 and STDIN in inputs:
        raise UsageError(f"{param('inputs')} -: {processes.world} processes cannot share stdin; give folders")
    checkpoint = checkpoint_beside(out)
    if processes.leads:  # it alone writes: hosts of others need not have the output's folder
        refuse_existing(out, force=force)
        checkpoint_of(out, resume=resume, force=force)
    search = face_search(OneFace.largest, min_face, min_confidence, rotations=rotations)
    items = open_photos(inputs, all_files=all_files, null=null, urls=urls)
    hush(processes)
    claim = claimed(out if processes.leads else None, replace=force)
    with claim, RecordWriter(SCHEMA, "agreement", COLUMNS, order=Order.made, makes_files=True) as writer:
        import torch

        with uncollected():
            from _toolio.compute.device import pick_device
            from facetools.extractors.architectures import mobilefacenet
            from facetools.extractors.factory import open_extractor
            from facetools.extractors.files import Prepared, save_extractor
            from facetools.training.distillation import DistillationConfig, DistillationTrainer, HeldOutFaces
            from facetools.training.face_reader import FaceReader
            from facetools.training.samples import digest_sources, split

        place = pick_device(device_of(processes, device))
        with join(processes, place):
            guide = open_extractor(teacher, place)
            reader = FaceReader(
                mobilefacenet.SETTINGS,
                guide.settings,
                device=place,
                faces=search,
                report=report_to(writer),
                progress=track if processes.leads else no_progress,
            )
            samples = [face.sample for face in reader.read(items, total=count(items))]
            known, unseen = split(samples, seed=seed, share=held_out)
            torch.manual_seed(seed % 2**63)
            student = Prepared(mobilefacenet.MobileFaceNet(guide.dimensions), mobilefacenet.SETTINGS)
            config = DistillationConfig(
                epochs=epochs, batch=batch, learning_rate=learning_rate, identity_weight=identity_weight, seed=seed
            )
            trainer = DistillationTrainer(student, guide, known, config, device=place, processes=processes)
            arguments = {**asdict(config), "held_out": held_out, **search.arguments}
            del arguments["faces"]  # always the largest: what resumes and what is written has never named it
            about = {
                "version": tool_version(),
                "arguments": arguments,
                "teacher": {"name": guide.name, "sha256": guide.sha256},
                "inputs_sha256": digest_sources(samples),
            }
            processes.check_same(about)
            if processes.agree(resume and checkpoint.exists()):
                trainer.load(checkpoint, about)
            if not processes.leads:
                for _ in trainer.epochs():
                    pass
                processes.agree(None)  # a process that ends is the end of all: the file is written first
                return 0
            held_out_faces = HeldOutFaces(guide, unseen, trainer.centre)
            for measured in trainer.history:  # of the runs before: what they printed may be lost
                writer.emit(measured)
            for loss in track(trainer.epochs(), "training", epochs, done=trainer.epoch):
                measured = held_out_faces.measure(trainer.averaged)
                trainer.history.append({**measured, "epoch": trainer.epoch, "loss": loss, "faces": len(known)})
                trainer.save(checkpoint, about)
                writer.emit(trainer.history[-1])
            state = trainer.averaged.network.state_dict()
            people = sorted({sample.person for sample in samples})
            made = {**about, "figures": trainer.history[-1], "dimensions": guide.dimensions, "people": people}
            save_extractor(out, "mobilefacenet", state, mobilefacenet.SETTINGS, made, half=True)
            checkpoint.unlink(missing_ok=True)
            processes.agree(None)
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "agreement": "Mean cosine of own and teacher's embeddings, the latter less their mean, on held-out people.",
        "auc": "Area under the ROC curve of face verification on held-out people.",
        "teacher_auc": "The same for the teacher.",
        "epoch": "From 1.",
        "loss": "Mean training loss of the epoch.",
        "faces": "Faces trained on.",
        "held_out_faces": "Faces of held-out people.",
        "path": "A photo that could not be used.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools train-extractor --in people/ --out mine.safetensors > training.jsonl",
            "Train on folders of photos, one a person.",
        ),
        ("facetools embed --extractor mine.safetensors --in photos/ --out x.safetensors > x.jsonl", "Use it."),
    ),
)
