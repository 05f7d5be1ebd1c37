"""The command ``facetools train-robust``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.compute.distributed import count_processes, device_of, failing_together, hush, join
from _toolio.errors import UsageError, param
from _toolio.files.checkpoint_names import checkpoint_beside
from _toolio.files.claims import claimed
from _toolio.files.overwriting import checkpoint_of, refuse_existing, refuse_link, refuse_nested
from _toolio.lazy import uncollected
from _toolio.progress import no_progress
from _toolio.streams.records import Order, RecordWriter
from _toolio.version import tool_version
from facetools.commands._fields import PROBLEM
from facetools.commands._options import (
    CloakSuffix,
    Crops,
    ExtractorOption,
    HeldOut,
    MinConfidence,
    MinFace,
    OneFace,
    OneFaceOption,
    Rotations,
    face_search,
)
from facetools.commands._train_robust import (
    Adversarial,
    AttackOption,
    CleanOption,
    CloakedOption,
    Consistency,
    Freeze,
    HoldOut,
    Identity,
    LearningRate,
    MaxCleanLoss,
    check,
    make_cloaks,
)
from facetools.commands._training import report_to
from facetools.extractors.factory import BUILT_IN, DEFAULT
from facetools.training.excluded_people import read_excluded

SCHEMA = "facetools.train-robust/1"
COLUMNS = ("epoch", "clean_accuracy", "clean_loss", "loss", "best", "path", "reason")


class HeadName(StrEnum):
    """Classification head used in training."""

    softmax = "softmax"
    arcface = "arcface"


@failing_together
def train_robust(
    clean: CleanOption,
    out: options.OutFile,
    cloaked: CloakedOption = None,
    attack: AttackOption = None,
    extractor: ExtractorOption = DEFAULT,
    suffix: CloakSuffix = "",
    hold_out: HoldOut = None,
    held_out: HeldOut = 0.1,
    head: Annotated[HeadName, typer.Option(help="Classification head used in training.")] = HeadName.softmax,
    identity: Identity = 1.0,
    consistency: Consistency = 8.0,
    adversarial: Adversarial = 0,
    freeze: Freeze = None,
    epochs: Annotated[int, typer.Option(min=1, help="Each shows all cloaked faces and as many clean ones.")] = 20,
    patience: Annotated[
        int, typer.Option(min=1, help="Early stopping: epochs without a better one, after the first that can be kept.")
    ] = 5,
    batch: Annotated[int, typer.Option(min=2, help="Faces a step.")] = 32,
    learning_rate: LearningRate = 3e-4,
    max_clean_loss: MaxCleanLoss = 1.0,
    faces: OneFaceOption = OneFace.largest,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Fine-tune an extractor to recognise cloaked faces.

    Trains on clean and cloaked photos of people who are not to be recognised later, and writes an extractor file. One
    record an epoch, on held-out people, ranks by protection: the share of clean photos recognised as somebody else
    when the person's other photos are cloaked. Measured and kept is the moving average of the weights: that of the
    best epoch that loses no more accuracy on clean photos than --max-clean-loss, or, where none does, weights
    interpolated between the untouched and the last ones. After each epoch it writes FILE.checkpoint, from which
    --resume goes on. Runs under torchrun on several devices.
    """
    processes = count_processes()
    check(clean, cloaked or [], attack or [], identity, consistency)
    checkpoint, cloaks = checkpoint_beside(out), Path(f"{out}.cloaks")
    folders = {name: cloaks / name.replace(":", "-") for name in attack or []}
    if processes.leads:  # it alone writes: hosts of others need not have the output's folder
        refuse_existing(out, force=force)
        checkpoint_of(out, resume=resume, force=force)
        for folder in (cloaks, *folders.values()) if attack else ():
            refuse_link(folder)
        if attack and cloaks.exists() and not (resume or force):
            raise UsageError(f"{cloaks}: exists; use --resume to go on with it, or --force to replace what is in it")
    if attack:
        refuse_nested(cloaks, [clean], named=param("clean"))
        refuse_nested(cloaks, cloaked, named=param("cloaked"))
    excluded = read_excluded(hold_out or [])
    hush(processes)
    claim = claimed(out if processes.leads else None, replace=force)
    with claim, RecordWriter(SCHEMA, "protection", COLUMNS, order=Order.made, makes_files=True) as writer:
        with uncollected():
            from _toolio.compute.device import pick_device
            from facetools.extractors.factory import open_extractor
            from facetools.extractors.files import save_extractor, tensors_of
            from facetools.training.early_stopping import EarlyStopping, HeldOutEvaluation
            from facetools.training.face_reader import FaceReader
            from facetools.training.paired_faces import split_pairs
            from facetools.training.robust import RobustConfig, RobustTrainer, tunable

        place = pick_device(device_of(processes, device))
        with join(processes, place):
            search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
            start = open_extractor(extractor, place)
            student = tunable(start, freeze or [])
            reader = FaceReader(
                start.settings,
                device=place,
                faces=search,
                excluded=excluded,
                report=report_to(writer, added=": not used"),
                progress=track if processes.leads else no_progress,
            )
            photos = reader.list_photos(clean)
            reader.check_excluded()
            if processes.leads:
                for name, folder in folders.items():
                    failures = make_cloaks(
                        name, photos, folder, extractor=extractor, device=device, search=search, seed=seed,
                        resume=resume, force=force,
                    )  # fmt: skip
                    for records in track(failures, f"cloaking: {name}", len(photos), resumes=True):
                        for record in records:
                            writer.emit(record)
            processes.agree(None)
            copies = reader.list_copies(cloaked or [], list(folders.values()), photos, suffix)
            for person, number in reader.excluded_photos.items():
                writer.emit({"person": person, "photos": number, "reason": "held out: not used"})
            everything = reader.read_pairs(photos, copies, suffix)
            known, unseen = split_pairs(everything, share=held_out, seed=seed)
            config = RobustConfig(
                epochs=epochs, batch=batch, learning_rate=learning_rate, head=head.value, identity=identity,
                consistency=consistency, seed=seed, adversarial=adversarial,
            )  # fmt: skip
            trainer = RobustTrainer(
                start, student, known, config, device=place, processes=processes, half=place.type == "cuda"
            )
            arguments = {**asdict(config), "freeze": freeze or [], "held_out": held_out}
            arguments |= {**search.arguments, "suffix": suffix, "cloaked": list(copies)}
            about: dict[str, Any] = {
                "version": tool_version(),
                "arguments": arguments,
                "teacher": {"name": start.name, "sha256": start.sha256},
                "inputs_sha256": everything.sha256,
            }
            processes.check_same(about)
            if processes.agree(resume and checkpoint.exists()):
                trainer.load(checkpoint, about)
            if not processes.leads:
                for _ in trainer.epochs():  # until the leading process stops
                    pass
                processes.agree(None)  # a process that ends is the end of all: the file is written first
                return 0
            evaluation = HeldOutEvaluation(start, unseen)
            stopping = EarlyStopping(trainer, evaluation, max_clean_loss=max_clean_loss, patience=patience)
            for fields in stopping.start():
                writer.emit(fields)
            for fields in track(stopping.epochs(), "training", epochs, done=trainer.epoch):
                writer.emit(fields)
                trainer.save(checkpoint, about)
            if last := stopping.finish():
                writer.emit(last)
            limits = {"max_clean_loss": max_clean_loss, "patience": patience}
            made = {**about, "limits": limits, "figures": trainer.figures, "dimensions": start.dimensions}
            made["people"] = sorted({*start.people, *everything.people.tolist()})
            source = None if extractor in BUILT_IN else Path(extractor)
            state = tensors_of(trainer.best, start.architecture, source)
            save_extractor(out, start.architecture, state, start.settings, made, options=start.options)
            checkpoint.unlink(missing_ok=True)
            processes.agree(None)
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "protection": "Mean of protections; null for a photo that could not be used.",
        "protections": "For each cloak the share of clean photos of held-out people whose nearest neighbour is "
        "somebody else when the person's other photos are cloaked; null where nobody can be tested.",
        "floors": "The same with these photos clean.",
        "clean_accuracy": "Rank-1 accuracy on clean photos of held-out people with nobody cloaked, leaving one out.",
        "clean_loss": "Percentage points of it that are lost against the untouched extractor.",
        "epoch": "From 0, which is the untouched extractor.",
        "loss": "Mean training loss of the epoch: the sum of the next two, weighted.",
        "identity_loss": "Of the classification of people.",
        "consistency_loss": "Of the distance between embeddings and those of the clean originals before.",
        "best": "Whether the epoch is the best so far, which early stopping keeps.",
        "blend": "In a last record, where every epoch costs too much: the weight of the tuned network in the "
        "interpolation with the untouched one that the file holds.",
        "held_out_faces": "Faces of held-out people.",
        "person": "A person that --hold-out names, and who is not used.",
        "photos": "Number of their photos.",
        "path": "A photo that could not be used.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools train-robust --clean people/ --cloaked lk/ --hold-out me/ --out r.safetensors > log.jsonl",
            "Learn from clean and cloaked photos of people, but not of me.",
        ),
        (
            "facetools train-robust --clean people/ --attack fawkes-v1.0:low --out r.safetensors",
            "Cloak the photos first, into r.safetensors.cloaks/.",
        ),
        (
            "torchrun --nproc-per-node 2 -m facetools train-robust --clean people/ --cloaked lk/ --out x",
            "Train on two GPUs.",
        ),
    ),
)
