"""Cloaks of single faces, for the tests of cloaking."""

from __future__ import annotations

from typing import Any

import torch

from facetools.attacks.registry import find
from facetools.cloaking.change import Change, measure_change
from facetools.cloaking.engine import Job, Recipe, add_changes, cloak_faces
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.perceptual.distance import open_distance

CPU = torch.device("cpu")
DISTANCE = open_distance(None, allow_download=False, device=CPU)


def moved_face(face: Face, scale: float, x: float = 0, y: float = 0) -> Face:
    x0, y0, x1, y1 = (value * scale + shift for value, shift in zip(face.box, (x, y, x, y), strict=True))
    return Face((x0, y0, x1, y1), face.confidence, (face.landmarks + 0.5) * scale - 0.5 + (x, y))


def recipe_of(extractor: Extractor, name: str = "lowkey", **knobs: Any) -> Recipe:
    method = find(name)
    return Recipe(method, None, {**method.knobs, **knobs}, [extractor], DISTANCE, 0)


def cloaked(pixels: Any, faces: list[Face], extractor: Extractor, *, steps: int = 12, seeds: Any = None) -> Any:
    jobs = [Job(pixels, face, seed) for face, seed in zip(faces, seeds or range(len(faces)), strict=False)]
    # One at a time, as on a CPU: together, sign steps would follow other last bits.
    recipe = recipe_of(extractor, steps=steps)
    return add_changes(pixels, [cloak_faces([job], recipe)[0] for job in jobs])


def change_of(clean: Any, other: Any, face: Face, extractor: Extractor) -> Change | None:
    return measure_change(clean, other, face, [extractor], DISTANCE)
