"""The command ``facetools train-detector``."""

from __future__ import annotations

from typing import Annotated

import typer

from _toolio import options
from _toolio.app import tool_version
from _toolio.errors import ToolError
from _toolio.paths import open_items, refuse_existing
from _toolio.progress import track
from _toolio.records import RecordWriter, error_fields
from facetools.commands._shared import MinFace

SCHEMA = "facetools.train-detector/1"
COLUMNS = ("epoch", "loss", "recall", "false_alarms", "path", "reason")

Folder = Annotated[list[str], typer.Option(metavar="PATH", help="A folder or .tar of photos; may be repeated.")]


def train_detector(
    clean: Folder,
    cloaked: Folder,
    out: options.OutFile,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of people kept for calibration and figures.")
    ] = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the photos.")] = 60,
    batch: Annotated[int, typer.Option(min=2, help="Faces a step, half of them cloaked.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Peak of the one-cycle schedule.")] = 3e-3,
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
        import numpy as np

        from _toolio.device import pick_device
        from facetools import detector_training as training
        from facetools.detector import save_detector
        from facetools.intake import Intake, Refusal, take_in
        from facetools.metrics import area_under_roc

        place = pick_device(device)
        examples = []
        for label, folders in ((False, clean), (True, cloaked)):
            items = open_items(folders)
            for intake in take_in(track(items, "reading faces"), place, faces="largest", min_face_px=min_face):
                path = {"path": intake.item.path}
                if isinstance(intake, Refusal) and intake.error is not None:
                    writer.emit({**path, **error_fields(intake.error)})
                if not isinstance(intake, Intake):
                    continue
                made = [
                    training.make_example(intake.photo.pixels, face, intake.item.relative, cloaked=label)
                    for face in intake.faces
                ]
                if not made or made[0] is None:
                    writer.emit({**path, "reason": "no face found"})
                else:
                    examples.append(made[0])
        parts: tuple[list[training.Example], list[training.Example]] = ([], [])
        for example in examples:
            parts[training.is_held_out(example.person, seed, held_out)].append(example)
        for name, part in zip(("training", "held-out"), parts, strict=True):
            if len({example.cloaked for example in part}) < 2:
                raise ToolError(
                    f"the {name} part lacks clean or cloaked faces; give photos of more people or change --held-out"
                )
        known, unseen = parts
        labels = np.array([example.cloaked for example in unseen])
        rounds = training.train_network(
            known, epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed, device=place
        )
        for epoch, (network, loss) in enumerate(track(rounds, "training", epochs), 1):
            logits = training.logits_of(network, unseen, place)
            temperature = training.fit_temperature(logits, labels)
            figures = {
                "auc": area_under_roc(logits, labels),
                "epoch": epoch,
                "loss": loss,
                "recall": float((logits[labels] >= 0).mean()),
                "false_alarms": float((logits[~labels] >= 0).mean()),
                "faces": len(known),
                "held_out_faces": len(unseen),
            }
            writer.emit(figures)
        arguments = {
            "epochs": epochs,
            "batch": batch,
            "learning_rate": learning_rate,
            "held_out": held_out,
            "seed": seed,
        }
        made_by = {"version": tool_version(), "arguments": arguments, "figures": figures, "width": 24}
        save_detector(out, network, {**made_by, "threshold": 0.5, "temperature": temperature})
        return writer.exit_code
