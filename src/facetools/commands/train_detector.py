"""The command ``facetools train-detector``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.messages import warn
from _toolio.cli.progress import track
from _toolio.compute.distributed import count_processes, device_of, failing_together, hush, join
from _toolio.compute.precision import Precision, doubt_of, in_half
from _toolio.errors import UsageError, param, spelled
from _toolio.files.checkpoint_names import checkpoint_beside, fold_checkpoints
from _toolio.files.claims import claimed
from _toolio.files.overwriting import checkpoint_of, refuse_checkpoint, refuse_existing, refuse_link, refuse_nested
from _toolio.lazy import uncollected
from _toolio.progress import no_progress
from _toolio.streams.records import Order, RecordWriter
from _toolio.version import tool_version
from facetools.commands._fields import PROBLEM
from facetools.commands._options import (
    Crops,
    HeldOut,
    MinConfidence,
    MinFace,
    OneFace,
    OneFaceOption,
    Rotations,
    face_search,
)
from facetools.commands._train_detector import (
    Clean,
    Cloaked,
    FalseAlarms,
    Folds,
    KeepFolds,
    Suffix,
    name_cloaks,
    number_attacks,
)
from facetools.commands._training import report_to

SCHEMA = "facetools.train-detector/1"
COLUMNS = ("epoch", "loss", "attack_accuracy", "path", "reason")


@failing_together
def train_detector(
    clean: Clean,
    cloaked: Cloaked,
    out: options.OutFile,
    held_out: HeldOut = 0.2,
    folds: Folds = 0,
    keep_folds: KeepFolds = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cloaked photos.")] = 60,
    batch: Annotated[int, typer.Option(min=4, help="Faces a step, three in eight of them cloaked.")] = 64,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, max=1.0, callback=options.finite, help="Peak of the one-cycle schedule.")
    ] = 3e-3,
    false_alarms: FalseAlarms = 0.005,
    faces: OneFaceOption = OneFace.largest,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    suffix: Suffix = "",
    precision: options.PrecisionChoice = Precision.auto,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Train a detector on clean and cloaked photos.

    Writes a file for detect --detector, and one record an epoch. A person is a folder of photos; nobody is in
    both parts of the data. With --folds whole sources are held out in turn instead, a source being the first
    folder of a photo's path below --clean, and the detector is trained on all. Clean and cloaked photos must
    have gone through the same saves (perturb --attack none makes such clean copies), or the detector learns the
    file format instead of the cloak. Copies are matched by their names without endings. Faces are kept in
    memory, up to 1.2 MB each. After each epoch it writes FILE.checkpoint, from which --resume goes on, and with
    --folds keeps it of each part as FILE.checkpoint.fold-1 and so on; they are removed at the end. Runs under
    torchrun on several devices.
    """
    processes = count_processes()
    named = name_cloaks(clean, cloaked)
    refuse_nested(out, [*clean, *(path for _, path in named)], named="an input,")
    if keep_folds and not folds:
        raise UsageError("--keep-folds: needs --folds; give both, or none")
    checkpoint = checkpoint_beside(out)
    parts = fold_checkpoints(checkpoint)
    if processes.leads:  # it alone writes: hosts of others need not have the output's folder
        refuse_existing(out, force=force or resume)
        checkpoint_of(out, resume=resume, force=force)
        for part in parts:
            refuse_checkpoint(part, resume=resume, force=force)
    hush(processes)
    claim = claimed(out if processes.leads else None, replace=force or resume)
    with claim, RecordWriter(SCHEMA, "auc", COLUMNS, order=Order.made, makes_files=True) as writer:
        with uncollected():
            from _toolio.compute.checkpoints import figures_of
            from _toolio.compute.device import pick_device
            from facetools.detector.training.examples import read_examples
            from facetools.detector.training.pipeline import DetectorConfig, files_of_folds
            from facetools.detector.training.pipeline import train_detector as train
            from facetools.training.loop import TrainingConfig
            from facetools.training.samples import digest_sources

        place = pick_device(device_of(processes, device))
        half = in_half(precision, place)
        if processes.leads and (doubt := doubt_of(place, half=half)):
            warn("facetools", spelled(doubt))
        with join(processes, place):
            search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
            folders = [clean, *([path] for _, path in named)]
            progress = track if processes.leads else no_progress
            examples = read_examples(
                folders, place, faces=search, suffix=suffix, report=report_to(writer), progress=progress
            )
            attacks, numbers = number_attacks(named)
            training = TrainingConfig(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
            arguments = {**asdict(training), "held_out": held_out, "folds": folds, "half": half, **search.arguments}
            about: dict[str, Any] = {
                "version": tool_version(),
                "arguments": arguments,
                "attacks": attacks,
                "inputs_sha256": digest_sources(examples),
            }
            processes.check_same(about)
            if processes.agree(resume and out.exists() and not (checkpoint.exists() or parts)):
                figures = figures_of(out, {**about, "false_alarms": false_alarms}) if processes.leads else {}
                for each in figures.get("sources", [figures]):
                    writer.emit(each)
                return writer.exit_code
            config = DetectorConfig(
                training=training,
                attacks=tuple(attacks),
                numbers=numbers,
                held_out=held_out,
                folds=folds,
                keep_folds=keep_folds,
                false_alarms=false_alarms,
                half=half,
            )
            if keep_folds and processes.leads:
                for file in files_of_folds(examples, folds, out):
                    refuse_link(file)
                    refuse_existing(file, force=force or resume, named=param("keep_folds"))
            if processes.leads and not resume:  # forced: it starts again
                for path in (checkpoint, *parts):
                    path.unlink(missing_ok=True)
            for figures in train(
                examples, config, out, device=place, checkpoint=checkpoint, about=about, progress=progress,
                processes=processes,
            ):  # fmt: skip
                writer.emit(figures)
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "auc": "Area under the ROC curve on held-out people, after this epoch; with --folds on a source.",
        "attacks": "The same for each attack alone, its faces against all clean ones; null where it has none.",
        "attack_accuracy": "Accuracy of the likeliest attack on held-out cloaked faces.",
        "epoch": "From 1.",
        "held_out_faces": "Faces of held-out people.",
        "fold": "With --folds, number of the part that was left out.",
        "left_out": "Its sources.",
        "source": "A source, scored by the network that was trained without it, at thresholds chosen without it.",
        "clean_faces": "Its clean faces.",
        "false_alarms": "Share of them that is called cloaked.",
        "unclear": "Share of them that is unclear.",
        "cloaked_faces": "Its cloaked faces.",
        "recall": "Share of them that is called cloaked.",
        "loss": "Mean training loss of the epoch; of a part, of its last.",
        "faces": "Faces trained on.",
        "paired": "Cloaked ones among them that have a clean copy, matched by name and size: the more, the better.",
        "path": "A photo that could not be used.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools train-detector --clean control/ --cloaked cloaked/ \\\n"
            "  --out detector.safetensors > training.jsonl",
            "Train on the photos that perturb wrote, control copies against cloaks.",
        ),
        ("facetools detect --detector detector.safetensors --in photos/ > scores.jsonl", "Use it."),
        (
            "torchrun --nproc-per-node 2 -m facetools train-detector --clean control/ --cloaked cloaked/ --out x",
            "Train on two GPUs.",
        ),
    ),
)
