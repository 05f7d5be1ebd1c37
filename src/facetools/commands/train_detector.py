"""The command ``facetools train-detector``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from _toolio import options
from _toolio.app import tool_version
from _toolio.paths import checkpoint_of, refuse_existing, refuse_processes
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools.commands._detector_training import (
    Clean,
    Cloaked,
    FalseAlarms,
    name_cloaks,
    number_attacks,
    read_examples,
)
from facetools.commands._shared import Crops, HeldOut, MinFace, OneFace, OneFaceOption

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
    false_alarms: FalseAlarms = 0.003,
    faces: OneFaceOption = OneFace.largest,
    crops: Crops = False,
    min_face: MinFace = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Train a detector on clean and cloaked photos.

    Writes a file for detect --detector, and one record an epoch. A person is a folder of photos; nobody is in
    both parts of the data. Clean and cloaked photos must have gone through the same saves (perturb --attack
    none makes such clean copies), or the detector learns the file format instead of the cloak. After each epoch it
    leaves FILE.checkpoint, from which --resume goes on, until it is done.
    """
    refuse_existing(out, force=force)
    refuse_processes("train-detector")
    checkpoint = checkpoint_of(out, resume=resume, force=force)
    named = name_cloaks(cloaked)
    with RecordWriter(SCHEMA, "auc", COLUMNS) as writer:
        from _toolio.device import pick_device
        from facetools import detector_training as training
        from facetools.detector import save_detector
        from facetools.detector_calibration import calibrate
        from facetools.detector_examples import Example, Reader, digest_of, split_people

        place = pick_device(device)
        wanted = "crop" if crops else faces.value
        reader = Reader()
        examples: list[Example] = []
        for number, folders in enumerate([clean, *([path] for _, path in named)], -1):
            examples += read_examples(writer, reader, folders, number, place, wanted, min_face)
        examples.sort(key=lambda example: example.source)  # folders in another order train the same
        known, unseen = split_people(examples, seed=seed, share=held_out)
        attacks, numbers = number_attacks(named)
        knobs = training.Knobs(epochs, batch, learning_rate, seed)
        trainer = training.Trainer(known, numbers, knobs, device=place)
        about: dict[str, Any] = {
            "version": tool_version(),
            "arguments": {**asdict(knobs), "held_out": held_out, "faces": wanted, "min_face": min_face},
            "attacks": attacks,
            "inputs_sha256": digest_of(examples),
        }
        if resume and checkpoint.exists():
            trainer.load(checkpoint, about)
        for loss in track(trainer.rounds(), "training", epochs):
            figures = trainer.measure(unseen, attacks) | {"loss": loss, "faces": len(known)}
            trainer.history.append(figures)
            trainer.save(checkpoint, about)
            writer.emit(figures)
        calibration, figures = calibrate(trainer.averaged, unseen, false_alarms=false_alarms)
        made = {**about, "false_alarms": false_alarms, "figures": {**trainer.history[-1], **figures}}
        save_detector(out, trainer.averaged, tuple(attacks), calibration, made)
        checkpoint.unlink(missing_ok=True)
        return writer.exit_code
