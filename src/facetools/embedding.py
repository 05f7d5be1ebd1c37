"""Cutting chips and embedding them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from facetools.extractors import Extractor
from facetools.faces.alignment import ChipCutter, chip_corners, chip_landmarks, chip_matrix
from facetools.faces.finder import Face
from facetools.intake import Intake, describe_face
from facetools.outputs import Output
from facetools.photos import Pixels, as_tensor


def chip_of(pixels: Pixels, face: Face, extractor: Extractor) -> Tensor:
    """Cut the chip that an extractor wants.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB.
    face
        Its landmarks place the chip.
    extractor
        Gives size and alignment.

    Returns
    -------
    float32 [1, 3, height, width]
        In [0, 1], on the extractor's device.
    """
    height, width = pixels.shape[:2]
    matrix = chip_matrix(face, (height, width), extractor.alignment, extractor.size)
    corners = chip_corners(matrix, extractor.size)
    # Only what the chip covers becomes float: a 24-megapixel photo would take 300 MB. One pixel at least
    # stays where a chip lies outside the photo, as the nearest edge counts there.
    left, top = (
        int(np.clip(low - 2, 0, size - 1)) for low, size in zip(np.floor(corners.min(0)), (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(high + 3, start + 1, size))
        for high, start, size in zip(np.ceil(corners.max(0)), (left, top), (width, height), strict=True)
    )
    part = as_tensor(pixels[top:bottom, left:right], extractor.device)
    matrix[:, 2] -= (left, top)
    return ChipCutter(matrix, extractor.size, (part.shape[2], part.shape[3]), extractor.device)(part)


def chips_of(intake: Intake, extractor: Extractor) -> Iterator[Output]:
    """Cut the chips of a photo's faces, each a PNG file with values rounded to 8 bits, and describe them."""
    item = intake.item
    about = {"source": item.path, "alignment": extractor.alignment}
    if not intake.faces:
        reason = {"relative": item.relative, **about, "face": None, "reason": "no face found; nothing written"}
        yield Output(item.relative, None, [reason])
    for face, number in zip(intake.faces, intake.numbers, strict=True):
        chip = (chip_of(intake.photo.pixels, face, extractor)[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
        data = io.BytesIO()
        Image.fromarray(chip.cpu().numpy()).save(data, format="PNG")
        relative = f"{item.relative}.face{number}.png"
        placed = {
            "face": number,
            "box": [0, 0, extractor.size[1], extractor.size[0]],
            "landmarks": chip_landmarks(face, intake.photo.pixels.shape[:2], extractor.alignment, extractor.size),
        }
        fields = {"confidence": face.confidence, "relative": relative, **about, **placed}
        yield Output(relative, data.getvalue(), [fields])


class Embedder:
    """Collects faces and embeds them in batches.

    Parameters
    ----------
    extractor
        What embeds.
    batch
        Chips worked on together on an accelerator; on a CPU each is embedded by itself.
    file
        Where the embeddings will lie, for the records.
    """

    def __init__(self, extractor: Extractor, *, batch: int, file: Path) -> None:
        self._extractor, self._batch, self._file = extractor, batch, file
        self._waiting: list[Tensor] = []
        self._rows: list[npt.NDArray[np.float32]] = []
        self._described: list[dict[str, Any]] = []

    def add(self, intake: Intake) -> list[dict[str, Any]]:
        """Add a photo's faces; give the fields of one record each, or of one that says that there is none."""
        item = intake.item
        about = {"path": item.path, "relative": item.relative, "sha256": intake.digest}
        if not intake.faces:
            return [{"row": None, **about, "face": None, "reason": "no face found"}]
        fields = []
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            self._waiting.append(chip_of(intake.photo.pixels, face, self._extractor))
            row = {"row": len(self._described), "file": str(self._file), **about, "extractor": self._extractor.name}
            fields.append({**row, **describe_face(face, number)})
            self._described.append({**about, "face": number})
            if len(self._waiting) >= self._batch:
                self._flush()
        return fields

    @torch.inference_mode()
    def _flush(self) -> None:
        if self._waiting:
            on_cpu = self._extractor.device.type == "cpu"
            # On a CPU a chip by itself: in a batch its last bits would depend on how many they are.
            batches = self._waiting if on_cpu else [torch.cat(self._waiting)]
            self._rows += [self._extractor.network(chips).float().cpu().numpy() for chips in batches]
            self._waiting.clear()

    def finish(self) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Give all embeddings, float32 [faces, dimensions], and what the file says of them."""
        self._flush()
        network = self._extractor
        about: dict[str, Any] = {"name": network.name, "sha256": network.sha256, "distance": network.distance}
        if network.people:  # who measures it on them must be told
            about["people"] = list(network.people)
        made = {
            "extractor": about,
            "alignment": network.alignment,
            "rows": self._described,
        }
        return np.concatenate([np.zeros((0, network.dimensions), np.float32), *self._rows]), made
