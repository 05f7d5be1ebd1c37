"""Faces without a photo, and networks without a training, for the tests of the detector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from _toolio.streams.inputs import Item
from facetools.detector.network import ResidualNet
from facetools.detector.training.examples import Example
from facetools.faces.face import Face
from facetools.intake import Intake
from facetools.photos.photo import Photo, Pixels

CPU = torch.device("cpu")


def face_at(x0: float, y0: float, x1: float, y1: float) -> Face:
    return Face((x0, y0, x1, y1), 1.0, np.zeros((5, 2)))


def picture(height: int = 120, width: int = 140, seed: int = 0) -> Pixels:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(side: int, seed: int = 0) -> Pixels:
    """A picture of a few soft colours."""
    few = np.random.default_rng(seed).integers(40, 215, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC))


def network(attacks: int = 2, seed: int = 0) -> ResidualNet:
    """An untrained network with statistics as after training, not the zeros and ones of a new one."""
    torch.manual_seed(seed)
    made = ResidualNet(attacks)
    made.train()(torch.rand(4, 3, 48, 48))
    return made.eval()


def intake_of(relative: str, pixels: Pixels, *faces: Face, data: bytes = b"bytes") -> Intake:
    return Intake(Item(relative, relative), data, Photo(pixels, "PNG"), faces, tuple(range(len(faces))))


def example_of(pixels: Pixels, *, person: str = "ann", cloak: int = -1, rim: float = 10, group: str = "") -> Example:
    """An example whose box is all but a rim."""
    height, width = pixels.shape[:2]
    box = (float(rim), float(rim), float(width - rim), float(height - rim))
    origin = (0, 0, width, height, height, width)
    return Example(f"{person} {cloak}", person, f"{person}/0", cloak, pixels, box, origin, group=group)


def striped(pixels: Pixels, axis: int, strength: int = 12) -> Pixels:
    """Lay stripes of two pixels on a photo, along an axis."""
    stripes = np.where(np.arange(pixels.shape[axis]) // 2 % 2, strength, -strength)
    moved = np.moveaxis(pixels.astype(int), axis, -1) + stripes
    laid: Pixels = np.clip(np.moveaxis(moved, -1, axis), 0, 255).astype(np.uint8)
    return laid


def striped_people(count: int, seed: int = 0, side: int = 110) -> list[Example]:
    """People with a clean photo and a cloaked one each, with stripes of one attack or of the other."""
    examples = []
    for number in range(count):
        person, clean = f"person {seed} {number}", smooth(side, seed=1000 * seed + number)
        examples.append(example_of(clean, person=person))
        examples.append(example_of(striped(clean, number % 2), person=person, cloak=number % 2))
    return examples


def sources(**sizes: int) -> list[Example]:
    """Clean and cloaked faces of as many people of each source."""
    return [
        replace(each, group=name, person=f"{name} {each.person}", source=f"{name} {each.source}")
        for seed, (name, count) in enumerate(sizes.items())
        for each in striped_people(count, seed=seed, side=40)
    ]


def states_equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs: Any = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
