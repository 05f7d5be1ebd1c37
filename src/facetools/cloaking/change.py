"""Measure the change that a cloak makes to a photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from facetools.cloaking.regions import locate_region
from facetools.embeddings.chips import embed_face
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.perceptual import ssim as structural
from facetools.perceptual.distance import Distance
from facetools.photos.photo import Pixels, as_tensor


@dataclass(frozen=True, slots=True)
class Change:
    """Effect of a cloak on one face, measured on the saved photo.

    Attributes
    ----------
    moved
        Cosine distance between clean and cloaked embedding, mean over extractors, 0 to 2.
    distances
        The same for each extractor.
    ssim, psnr
        Of the face's region; ``psnr`` in dB, infinity where nothing changed.
    linf
        Largest change of a channel in the region, 0 to 255.
    perceptual, perceptual_distance
        Name of the perceptual distance, and the distance of the regions.
    clean, cloaked
        The embeddings that ``distances`` are between, float32 [D] for each extractor; no part of a record.
    """

    moved: float
    distances: Mapping[str, float]
    ssim: float
    psnr: float
    linf: int
    perceptual: str
    perceptual_distance: float
    clean: Sequence[Tensor] = field(default=(), repr=False, compare=False)
    cloaked: Sequence[Tensor] = field(default=(), repr=False, compare=False)


_UNRECORDED = ("clean", "cloaked")


def measure_change(
    clean: Pixels,
    cloaked: Pixels,
    face: Face,
    extractors: Sequence[Extractor],
    distance: Distance,
    *,
    embedded: Sequence[Tensor] | None = None,
) -> Change | None:
    """Compare one face in two photos of the same size, uint8 [H, W, 3], both aligned by the same landmarks.

    ``embedded`` are the clean face's embeddings, where an earlier comparison has computed them. Returns None if the
    face's chips lie outside the photo, so that it cannot be cloaked either.
    """
    region = locate_region(clean, face, extractors)
    if region is None:
        return None
    with torch.inference_mode():
        embedded = embed_face(clean, face, extractors) if embedded is None else embedded
        before_after = (embedded, embed_face(cloaked, face, extractors))
        distances = _distances(extractors, *before_after)
        parts = [p[region.slices] for p in (clean, cloaked)]
        before, after = (as_tensor(part, extractors[0].device) for part in parts)
        linf = int(np.abs(parts[0].astype(np.int16) - parts[1]).max())
        quality, noise = float(structural.ssim(before, after)), float(structural.psnr(before, after))
        looks = float(distance.distance(after, before))
    moved = sum(distances.values()) / len(distances)
    return Change(moved, distances, quality, noise, linf, distance.name, looks, *before_after)


def describe_change(change: Change) -> dict[str, Any]:
    """Return the fields of a record, with a ``reason`` where ``moved`` is NaN or infinite."""
    broken = {} if math.isfinite(change.moved) else {"reason": "an extractor gives an embedding that is not finite"}
    described = {each.name: getattr(change, each.name) for each in fields(change) if each.name not in _UNRECORDED}
    return {**described, **broken}


def measure_distances(clean: Pixels, cloaked: Pixels, face: Face, extractors: Sequence[Extractor]) -> dict[str, float]:
    """Return the cosine distance, 0 to 2, between one face's embeddings in two photos, for each extractor by name."""
    # The chips that embed would cut, from the photo's own pixels.
    return _distances(extractors, *(embed_face(photo, face, extractors) for photo in (clean, cloaked)))


def _distances(extractors: Sequence[Extractor], clean: Sequence[Tensor], cloaked: Sequence[Tensor]) -> dict[str, float]:
    # Unlike max(), a clamp keeps what is not a number; records give it as null.
    return {
        extractor.name: float((1 - F.cosine_similarity(f.double(), g.double(), dim=0)).clamp(min=0))
        for extractor, f, g in zip(extractors, clean, cloaked, strict=True)
    }
