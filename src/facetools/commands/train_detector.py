"""The command ``facetools train-detector``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from _toolio import options
from _toolio.app import tool_version
from _toolio.paths import open_items, refuse_existing
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools.commands._shared import HeldOut, MinFace, hand_on

SCHEMA = "facetools.train-detector/1"
COLUMNS = ("epoch", "loss", "recall", "false_alarms", "path", "reason")

Folder = Annotated[list[str], typer.Option(metavar="PATH", help="A folder or .tar of photos; may be repeated.")]


def train_detector(
    clean: Folder,
    cloaked: Folder,
    out: options.OutFile,
    held_out: HeldOut = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the photos.")] = 60,
    batch: Annotated[int, typer.Option(min=2, help="Faces a step, half of them cloaked.")] = 64,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, max=1.0, callback=options.finite, help="Peak of the one-cycle schedule.")
    ] = 3e-3,
    min_face: MinFace = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Train a detector on clean and cloaked photos.

    Writes a file for detect --detector, and one record an epoch. A person is a folder of photos; nobody is in
    both parts of the data. Clean and cloaked photos must have gone through the same saves (perturb --attack
    none makes such clean copies), or the detector learns the file format instead of the cloak.
    """
    refuse_existing(out, force=force)
    with RecordWriter(SCHEMA, "auc", COLUMNS) as writer:
        from _toolio.device import pick_device
        from facetools import detector_training as training
        from facetools.detector import save_detector
        from facetools.intake import Intake, take_in

        place = pick_device(device)
        examples = []
        for label, folders in ((False, clean), (True, cloaked)):
            items = track(open_items(folders), "reading faces")
            for intake in take_in(items, place, faces="largest", min_face_px=min_face):
                if not isinstance(intake, Intake):
                    hand_on(writer, intake)
                elif example := training.make_example(intake, cloaked=label):
                    examples.append(example)
                else:
                    writer.emit({"path": intake.item.path, "reason": "no face found"})
        known, unseen = training.split_people(examples, seed=seed, share=held_out)
        knobs: dict[str, Any] = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
        rounds = training.train_network(known, **knobs, seed=seed, device=place)
        for epoch, (network, loss) in enumerate(track(rounds, "training", epochs), 1):
            figures, temperature = training.evaluate(network, unseen, place)
            figures |= {"epoch": epoch, "loss": loss, "faces": len(known)}
            writer.emit(figures)
        made = {
            "version": tool_version(),
            "arguments": {**knobs, "held_out": held_out, "min_face": min_face, "seed": seed},
            "inputs_sha256": training.digest_of(examples),
            "figures": figures,
            "width": training.WIDTH,
        }
        save_detector(out, network, {**made, "threshold": 0.5, "temperature": temperature})
        return writer.exit_code
