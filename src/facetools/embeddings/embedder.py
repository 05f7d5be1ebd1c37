"""Embed the faces of photos in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from _toolio.compute.memory import Batch
from facetools.attacks.origins import origin_of
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import describe_face
from facetools.intake import Intake


class Embedder:
    """Embed the faces of photos in batches.

    Parameters
    ----------
    extractor
        The network.
    batch
        Chips embedded together on an accelerator, fewer where memory runs out; on a CPU each is embedded alone.
    file
        The file of embeddings, for the records.
    """

    def __init__(self, extractor: Extractor, *, batch: Batch, file: Path) -> None:
        self._extractor, self._batch, self._file = extractor, batch, file
        self._waiting: list[Tensor] = []
        self._rows: list[npt.NDArray[np.float32]] = []
        self._described: list[dict[str, Any]] = []

    @torch.inference_mode()
    def prepare(self, intake: Intake) -> list[Tensor]:
        """Return a photo's chips, or on a CPU their embeddings, each [1, ...]; safe to call from several threads."""
        chips = [chip_of(intake.photo.pixels, face, self._extractor) for face in intake.faces]
        # On a CPU one chip at a time: in a batch its last bits would depend on the batch size.
        return [self._embed([chip]) for chip in chips] if self._extractor.device.type == "cpu" else chips

    def add(self, intake: Intake, prepared: Sequence[Tensor] | None = None) -> list[dict[str, Any]]:
        """Add a photo's faces; return the fields of one record a face, or of one with the reason for none.

        ``prepared`` is what `prepare` has returned for the photo, if it has been called.
        """
        item = intake.item
        about: dict[str, Any] = {"path": item.path, "relative": item.relative, "sha256": intake.digest}
        if (origin := origin_of(item.path, intake.digest)) is not None:
            about["made_against"] = origin
        if not intake.faces:
            return [{"row": None, **about, "face": None, "reason": intake.no_face}]
        self._take(self.prepare(intake) if prepared is None else prepared)
        fields = []
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            row = {"row": len(self._described), "file": str(self._file), **about, "extractor": self._extractor.name}
            fields.append({**row, **describe_face(face, number)})
            self._described.append({**about, "face": number})
        return fields

    def _take(self, prepared: Sequence[Tensor]) -> None:
        if self._extractor.device.type == "cpu":
            self._rows += [row.numpy() for row in prepared]
            return
        for chip in prepared:
            self._waiting.append(chip)
            if len(self._waiting) >= self._batch.size:
                self._flush()

    @torch.inference_mode()
    def _embed(self, chips: Sequence[Tensor]) -> Tensor:
        rows: Tensor = self._extractor.network(torch.cat(list(chips)))
        return rows.float().cpu()

    def _flush(self) -> None:
        if self._waiting:
            self._rows += self._batch.map(lambda chips: self._embed(chips).numpy(), self._waiting)
            self._waiting.clear()

    def finish(self) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Return all embeddings, float32 [faces, dimensions], and the metadata of their file."""
        self._flush()
        network = self._extractor
        about: dict[str, Any] = {"name": network.name, "sha256": network.sha256, "distance": network.distance}
        if network.people:  # an evaluation on them would be of training data
            about["people"] = list(network.people)
        made = {
            "extractor": about,
            "alignment": network.alignment,
            "rows": self._described,
        }
        return np.concatenate([np.zeros((0, network.dimensions), np.float32), *self._rows]), made
