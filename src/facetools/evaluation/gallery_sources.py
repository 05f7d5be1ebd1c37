"""Galleries from embeddings and from photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.streams.inputs import STDIN, Item
from facetools.attacks.origins import Origin, origin_of
from facetools.embeddings.files import check_finite
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.embeddings.records import EmbeddedFace, check_alike, distinct_faces, read_faces
from facetools.evaluation.gallery import Gallery, refuse_same_place

if TYPE_CHECKING:
    from facetools.extractors.extractor import Extractor
    from facetools.intake import Intake
    from facetools.transforms.preprocess import Preprocess


def read_gallery(name: str) -> Gallery:
    """Read a gallery of embeddings, the largest face of each photo.

    Parameters
    ----------
    name
        What ``facetools.embeddings.records.read_faces`` reads.

    Raises
    ------
    ToolError
        There is no face in it, a row does not match its record or is not finite, two rows or photos contradict each
        other, or extractors differ.
    """
    if name != STDIN and (not Path(name).exists() or (Path(name).is_dir() and not is_folder_of_parts(name))):
        raise ToolError(f"{name}: no such file or folder", kind="missing")
    found, faceless = read_faces(name)
    if not found:
        raise ToolError(f"{name}: no face in it; embed photos with `facetools embed`", kind="empty")
    check_alike(name, found)
    chosen = _largest(name, found)
    about = chosen[0].extractor
    items, unseen = tuple(face.item for face in chosen), {item.path: item for item in faceless}
    refuse_same_place((*items, *unseen.values()), name)
    rows, people = np.stack([face.embedding for face in chosen]), tuple(about.get("people", ()))
    gallery = Gallery(about["name"], about["sha256"], about["distance"], items, rows, people)
    digests = [face.sha256 for face in chosen]
    known = tuple(each for each in digests if each is not None)
    return replace(
        gallery,
        sha256s=known if len(known) == len(digests) else (),
        faceless=tuple(unseen.values()),
        origins=tuple(face.made_against for face in chosen),
    )


def _largest(name: str, found: Iterable[EmbeddedFace]) -> list[EmbeddedFace]:
    """Return the largest face of each photo.

    Raises
    ------
    ToolError
        Duplicates of a face disagree, or an embedding is not finite.
    """
    largest: dict[str, EmbeddedFace] = {}
    for face in distinct_faces(name, found):
        path = face.item.path
        if path not in largest or face.face < largest[path].face:
            largest[path] = face
    for face in largest.values():
        check_finite(face.embedding, name, face.item.path)
    return list(largest.values())


class PhotoEmbedder:
    """Embed photos with several extractors, after each of several preprocessing steps.

    Parameters
    ----------
    extractors
        What embeds.
    steps
        Preprocessing steps, each applied alone. Faces are found in the photo before it.
    chips
        Keep the aligned faces too, as the extractors see them.
    """

    def __init__(self, extractors: Sequence[Extractor], steps: Sequence[Preprocess], *, chips: bool = False) -> None:
        self._extractors, self._steps, self._keeps_chips = extractors, steps, chips
        self._chips: dict[tuple[str, str], list[npt.NDArray[np.uint8]]] = defaultdict(list)
        self._items: list[Item] = []
        self._faceless: list[Item] = []
        self._sha256s: list[str] = []
        self._origins: list[Origin | None] = []
        self._rows: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = defaultdict(list)

    def add(self, intake: Intake) -> None:
        """Embed a photo's first face, or note that it has none."""
        import torch

        from facetools.embeddings.chips import chip_of

        if not intake.faces:
            self._faceless.append(intake.item)
            return
        self._items.append(intake.item)
        self._sha256s.append(intake.digest)
        self._origins.append(origin_of(intake.item.path, intake.digest))
        for step in self._steps:
            pixels, scale = step.apply(intake.photo.pixels)
            face = intake.faces[0].scaled(scale)
            for extractor in self._extractors:
                chip = chip_of(pixels, face, extractor)
                with torch.inference_mode():
                    row = extractor.network(chip)[0].float().cpu().numpy()
                self._rows[extractor.name, step.name].append(row)
                if self._keeps_chips:
                    seen = (chip[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
                    self._chips[extractor.name, step.name].append(seen)

    def galleries(self, name: str) -> dict[tuple[str, str], Gallery]:
        """Return a gallery for each extractor and step, by their names; ``name`` is the input's, for messages.

        Raises
        ------
        ToolError
            No photo has a face.
        """
        if not self._items:
            raise ToolError(f"{name}: no face in any of its photos", kind="empty")
        made = {}
        for extractor in self._extractors:
            for step in self._steps:
                key = (extractor.name, step.name)
                rows, chips = np.stack(self._rows[key]), np.stack(self._chips[key]) if self._keeps_chips else None
                about = (extractor.name, extractor.sha256, extractor.distance)
                items, unseen = tuple(self._items), tuple(self._faceless)
                digests, origins = tuple(self._sha256s), tuple(self._origins)
                made[key] = Gallery(*about, items, rows, extractor.people, chips, digests, unseen, origins)
        return made
