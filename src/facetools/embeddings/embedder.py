"""Cutting chips and embedding them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import describe_face
from facetools.intake import Intake


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
