"""Cut aligned chips of faces for an extractor."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from _toolio.compute.device import pick_device
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.alignment import ChipCutter, chip_corners, chip_landmarks, chip_matrix
from facetools.faces.face import Face
from facetools.faces.search import FaceSearch
from facetools.intake import Intake
from facetools.outputs import Output, Outputs, outputs_of
from facetools.photos.photo import Pixels, as_tensor
from facetools.workers.photos import PhotoWorker

R = TypeVar("R")


def chip_of(pixels: Pixels, face: Face, extractor: Extractor) -> Tensor:
    """Cut the aligned chip of a face for an extractor.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB.
    face
        Its landmarks determine where the chip lies.
    extractor
        Determines size and alignment.

    Returns
    -------
    Tensor
        float32 [1, 3, height, width], RGB in [0, 1], on the extractor's device.
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


def embed_face(pixels: Pixels, face: Face, extractors: Sequence[Extractor]) -> list[Tensor]:
    """Embed a face of a photo, uint8 [H, W, 3]: for each extractor float32 [D] on the CPU."""
    with torch.inference_mode():
        return [extractor.network(chip_of(pixels, face, extractor))[0].float().cpu() for extractor in extractors]


def chips_of(intake: Intake, extractor: Extractor) -> Iterator[Output]:
    """Yield the chips of a photo's faces as PNG files of 8 bits, with the fields of their records."""
    item = intake.item
    about = {"source": item.path, "alignment": extractor.alignment}
    if not intake.faces:
        reason = {"relative": item.relative, **about, "face": None, "reason": f"{intake.no_face}; nothing written"}
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


class ExtractorWorker(PhotoWorker[R]):
    """Find faces and make something of them as an extractor takes them.

    Parameters
    ----------
    extractor
        As `open_extractor` takes it.
    search, batch
        As of `PhotoWorker`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, extractor: str, search: FaceSearch, batch: int, device: str) -> None:
        super().__init__(pick_device(device), search, batch)
        self.extractor = open_extractor(extractor, self.device)


class AlignmentWorker(ExtractorWorker[Outputs]):
    """Find faces and cut their chips."""

    def make(self, intakes: Sequence[Intake]) -> list[Outputs]:
        """Return the chips of each photo."""
        return [outputs_of(intake, chips_of(intake, self.extractor)) for intake in intakes]
