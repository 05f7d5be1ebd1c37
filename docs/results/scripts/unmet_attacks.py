"""Attack photos in ways that the detector has never met, to measure what it makes of them.

Usage: python docs/results/scripts/unmet_attacks.py PHOTOS OUT EXTRACTOR

Needs the package torchattacks, which is no dependency of the project. PHOTOS is a folder of people, of each of whom the
first photo is attacked as a whole crop around the face (1.3 times its box, at the photo's own size) by PGD (Madry et
al. 2018) and C&W (Carlini and Wagner 2017) against a classifier of these people: the cosine similarity of the
extractor's embedding to each person's. Writes OUT/clean, OUT/pgd-4, OUT/pgd-8 and OUT/cw, PNG crops for `facetools
detect --crops`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

from _toolio.streams.inputs import open_items
from facetools.detector.crops import CROP_SCALE, cut_square
from facetools.extractors.factory import open_extractor
from facetools.intake import Intake, take_in
from facetools.photos.photo import as_tensor, to_bytes

SHARPNESS = 20.0
"""Logits are similarities times this."""


class Classifier(torch.nn.Module):
    """Classify crops, float32 [1, 3, H, W], among known people."""

    def __init__(self, network: torch.nn.Module, size: tuple[int, int], known: torch.Tensor) -> None:
        super().__init__()
        self.network, self.size, self.known = network, size, known

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Return unit embeddings."""
        chips = F.interpolate(crops, self.size, mode="bilinear", antialias=True, align_corners=False)
        return F.normalize(self.network(chips))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Return logits, [1, people]."""
        return SHARPNESS * self.embed(crops) @ self.known.T


def main(photos: str, out: Path, name: str) -> None:
    """Attack the first photo of everybody."""
    import torchattacks  # type: ignore[import-not-found]

    device = torch.device("cpu")
    extractor = open_extractor(name, device)
    crops: dict[str, torch.Tensor] = {}
    for intake in take_in(open_items([photos]), device, faces="largest"):
        if isinstance(intake, Intake) and intake.faces:
            square = cut_square(intake.photo.pixels, intake.faces[0].box, CROP_SCALE, 10**9)
            if square is not None:
                crops.setdefault(Path(intake.item.relative).parent.name, as_tensor(square))
    model = Classifier(extractor.network, extractor.size, torch.empty(0))
    with torch.no_grad():
        model.known = torch.cat([model.embed(crop) for crop in crops.values()])
    attacks = {
        "pgd-4": torchattacks.PGD(model, eps=4 / 255, alpha=1 / 255, steps=10),
        "pgd-8": torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10),
        "cw": torchattacks.CW(model, c=1, kappa=0, steps=50, lr=0.01),
    }
    for number, (person, clean) in enumerate(crops.items()):
        torch.manual_seed(number)
        label = torch.tensor([number])
        made = {"clean": clean} | {kind: attack(clean, label) for kind, attack in attacks.items()}
        for kind, image in made.items():
            (out / kind).mkdir(parents=True, exist_ok=True)
            pixels = to_bytes(image[0].permute(1, 2, 0).numpy() * 255)
            Image.fromarray(pixels).save(out / kind / f"{person}.png")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
