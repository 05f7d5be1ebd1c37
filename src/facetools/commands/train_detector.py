"""The command ``facetools train-detector``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.files.overwriting import checkpoint_of, refuse_existing, refuse_nested
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from _toolio.version import tool_version
from facetools.commands._fields import PROBLEM
from facetools.commands._options import Crops, HeldOut, MinFace, OneFace, OneFaceOption
from facetools.commands._train_detector import Clean, Cloaked, FalseAlarms, Suffix, name_cloaks, number_attacks
from facetools.commands._training import report_to

SCHEMA = "facetools.train-detector/1"
COLUMNS = ("epoch", "loss", "attack_accuracy", "path", "reason")


def train_detector(
    clean: Clean,
    cloaked: Cloaked,
    out: options.OutFile,
    held_out: HeldOut = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cloaked photos.")] = 60,
    batch: Annotated[int, typer.Option(min=4, help="Faces a step, three in eight of them cloaked.")] = 64,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, max=1.0, callback=options.finite, help="Peak of the one-cycle schedule.")
    ] = 3e-3,
    false_alarms: FalseAlarms = 0.005,
    faces: OneFaceOption = OneFace.largest,
    crops: Crops = False,
    min_face: MinFace = None,
    suffix: Suffix = "",
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Train a detector on clean and cloaked photos.

    Writes a file for detect --detector, and one record an epoch. A person is a folder of photos; nobody is in
    both parts of the data. Clean and cloaked photos must have gone through the same saves (perturb --attack
    none makes such clean copies), or the detector learns the file format instead of the cloak. Copies are matched
    by their names without endings. Faces are kept in memory, up to 1 MB each. After each epoch it writes
    FILE.checkpoint, from which --resume goes on; it is removed at the end.
    """
    refuse_existing(out, force=force or resume)
    refuse_processes("train-detector")
    named = name_cloaks(clean, cloaked)
    refuse_nested(out, [*clean, *(path for _, path in named)], named="an input,")
    checkpoint = checkpoint_of(out, resume=resume, force=force)
    with RecordWriter(SCHEMA, "auc", COLUMNS, makes_files=True) as writer:
        from _toolio.compute.checkpoints import figures_of
        from _toolio.compute.device import pick_device
        from facetools.detector.calibration import calibrate
        from facetools.detector.examples import read_examples, split_people
        from facetools.detector.files import save_detector
        from facetools.detector.training import DetectorTrainer
        from facetools.training.loop import TrainingConfig
        from facetools.training.samples import digest_sources

        place = pick_device(device)
        wanted = "crop" if crops else faces.value
        folders = [clean, *([path] for _, path in named)]
        examples = read_examples(
            folders, place, faces=wanted, min_face_px=min_face, suffix=suffix, report=report_to(writer), progress=track
        )
        known, unseen = split_people(examples, seed=seed, share=held_out)
        attacks, numbers = number_attacks(named)
        config = TrainingConfig(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
        about: dict[str, Any] = {
            "version": tool_version(),
            "arguments": {**asdict(config), "held_out": held_out, "faces": wanted, "min_face": min_face},
            "attacks": attacks,
            "inputs_sha256": digest_sources(examples),
        }
        if resume and not checkpoint.exists() and out.exists():
            writer.emit(figures_of(out, {**about, "false_alarms": false_alarms}))
            return writer.exit_code
        trainer = DetectorTrainer(known, numbers, config, device=place)
        if resume and checkpoint.exists():
            trainer.load(checkpoint, about)
        for figures in track(trainer.train(unseen, attacks), "training", epochs):
            trainer.save(checkpoint, about)
            writer.emit(figures)
        calibration, shares = calibrate(trainer.averaged, unseen, false_alarms=false_alarms, attacks=numbers)
        made = {**about, "figures": {**trainer.history[-1], **shares}}
        save_detector(out, trainer.averaged, tuple(attacks), calibration, made)
        checkpoint.unlink(missing_ok=True)
        return writer.exit_code


PAGE = Page(
    fields={
        "auc": "Area under the ROC curve on held-out people, after this epoch.",
        "attacks": "The same for each attack alone, its faces against all clean ones; null where it has none.",
        "attack_accuracy": "Accuracy of the likeliest attack on held-out cloaked faces.",
        "epoch": "From 1.",
        "held_out_faces": "Faces of held-out people.",
        "loss": "Mean training loss of the epoch.",
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
    ),
)
