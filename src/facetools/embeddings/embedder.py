"""Embed the faces of photos in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from _toolio.compute.memory import Batch
from facetools.attacks.origins import origin_of
from facetools.embeddings.chips import ExtractorWorker, chip_of
from facetools.extractors.extractor import Extractor
from facetools.faces.face import describe_face
from facetools.intake import Intake


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of a photo's faces.

    Attributes
    ----------
    about
        Fields of its records: path, relative, sha256.
    faces
        Fields of each face.
    rows
        float32 [faces, dimensions].
    no_face
        Why there is none; None where there is one.
    """

    about: dict[str, Any]
    faces: tuple[dict[str, Any], ...]
    rows: npt.NDArray[np.float32]
    no_face: str | None


@torch.inference_mode()
def embed_photos(intakes: Sequence[Intake], extractor: Extractor, batch: Batch) -> list[Embedded]:
    """Embed the faces of photos, ``batch`` chips at a time; on a CPU each alone, as the last bits depend on the batch.

    Raises
    ------
    MemoryError, RuntimeError
        One chip alone is too large.
    """
    alone = extractor.device.type == "cpu"
    chips = [chip_of(each.photo.pixels, face, extractor) for each in intakes for face in each.faces]
    rows = _rows(chips, extractor, Batch(1) if alone else batch)
    return [_embedded(each, [next(rows) for _ in each.faces], extractor) for each in intakes]


def _rows(chips: Sequence[Tensor], extractor: Extractor, batch: Batch) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the embedding of each chip, float32 [dimensions]."""

    def embed(some: Sequence[Tensor]) -> npt.NDArray[np.float32]:
        rows: npt.NDArray[np.float32] = extractor.network(torch.cat(list(some))).float().cpu().numpy()
        return rows

    return (row for rows in batch.map(embed, chips) for row in rows)


def _embedded(intake: Intake, rows: Sequence[npt.NDArray[np.float32]], extractor: Extractor) -> Embedded:
    item = intake.item
    about: dict[str, Any] = {"path": item.path, "relative": item.relative, "sha256": intake.digest}
    if (origin := origin_of(item.path, intake.digest)) is not None:
        about["made_against"] = origin
    faces = tuple(describe_face(face, number) for face, number in zip(intake.faces, intake.numbers, strict=True))
    values = np.stack(rows) if rows else np.zeros((0, extractor.dimensions), np.float32)
    return Embedded(about, faces, values, None if intake.faces else intake.no_face)


class EmbeddingWorker(ExtractorWorker[Embedded]):
    """Find faces and embed them."""

    def make(self, intakes: Sequence[Intake]) -> list[Embedded]:
        """Return the embeddings of each photo."""
        return embed_photos(intakes, self.extractor, self.at_once)


class Embedder:
    """Gather the rows of a file of embeddings, and the records that name them.

    Parameters
    ----------
    extractor
        The network.
    batch
        Chips embedded together on an accelerator, fewer where memory runs out; on a CPU each is embedded alone.
    file
        The file, for the records; another may be set after `finish`.
    """

    def __init__(self, extractor: Extractor, *, batch: Batch, file: Path) -> None:
        self._extractor, self._batch, self.file = extractor, batch, file
        self._rows: list[npt.NDArray[np.float32]] = []
        self._described: list[dict[str, Any]] = []

    def add(self, photo: Intake | Embedded) -> list[dict[str, Any]]:
        """Add a photo's faces; return the fields of one record a face, or of one with the reason for none."""
        embedded = photo if isinstance(photo, Embedded) else embed_photos([photo], self._extractor, self._batch)[0]
        about = embedded.about
        if embedded.no_face:
            return [{"row": None, **about, "face": None, "reason": embedded.no_face}]
        self._rows.append(embedded.rows)
        fields = []
        for face in embedded.faces:
            row = {"row": len(self._described), "file": str(self.file), **about, "extractor": self._extractor.name}
            fields.append({**row, **face})
            self._described.append({**about, "face": face["face"]})
        return fields

    @property
    def rows(self) -> int:
        """How many faces have been added since the last `finish`."""
        return len(self._described)

    @property
    def dimensions(self) -> int:
        """How many numbers an embedding has."""
        return self._extractor.dimensions

    def finish(self) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Return all embeddings, float32 [faces, dimensions], and the metadata of their file; rows begin anew."""
        described, self._described = self._described, []
        rows, self._rows = self._rows, []
        network = self._extractor
        about: dict[str, Any] = {"name": network.name, "sha256": network.sha256, "distance": network.distance}
        if network.people:  # an evaluation on them would be of training data
            about["people"] = list(network.people)
        made = {
            "extractor": about,
            "alignment": network.alignment,
            "rows": described,
        }
        return np.concatenate([np.zeros((0, network.dimensions), np.float32), *rows]), made
