"""Does what lies around a face say what its clean score would be? Logits of clean faces beside those of their photos.

Usage: python docs/results/scripts/detector_surroundings.py PHOTOS [PHOTOS ...]

PHOTOS are folders of clean photos, such as WORK/photos of detector_cloaks.py. The installed detector scores each
photo's largest face, and windows of the same photo as large as the face's square, three quarters and half of it, that
share at most 15% of their area with it, all of them reduced as the face is. Prints one JSON object: how many photos
have such windows, how far the logit of a face goes with their mean, and how far clean logits spread as they are, less
that mean, and less what a line through both predicts.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from _toolio.streams.inputs import open_items
from facetools.detector.crops import CROP_SCALE, LARGEST_PX, Box, Crop, face_crops, resized, square_of
from facetools.detector.detector import logits_of
from facetools.detector.files import SHIPPED, open_detector
from facetools.intake import Intake, take_in
from facetools.photos.photo import Pixels

SCALES, MOST, SHARED, SMALLEST = (1.0, 0.75, 0.5), 4, 0.15, 24
"""Sides of windows in sides of the face's square, how many of each, what they may share with it, least side in px."""


def windows(pixels: Pixels, box: Box) -> Iterator[Crop]:
    """Yield windows of a photo beside a face, reduced as the face is; draws depend on nothing."""
    left, top, right, bottom = square_of(box, CROP_SCALE, 10**9, pixels.shape)
    factor = min(1.0, LARGEST_PX / max(bottom - top, right - left))
    rng = np.random.default_rng(0)
    for scale in SCALES:
        high, wide, found = int(scale * (bottom - top)), int(scale * (right - left)), 0
        if min(high, wide) < SMALLEST or high > pixels.shape[0] or wide > pixels.shape[1]:
            continue
        for y, x in rng.integers((pixels.shape[0] - high + 1, pixels.shape[1] - wide + 1), size=(40, 2)).tolist():
            across = max(0, min(x + wide, right) - max(x, left))
            down = max(0, min(y + high, bottom) - max(y, top))
            if across * down <= SHARED * high * wide and found < MOST:
                found += 1
                part = pixels[y : y + high, x : x + wide]
                yield resized(part, factor) if factor < 1 else part


def main(folders: Sequence[str]) -> None:
    """Score faces and what is around them."""
    device = torch.device("cpu")
    network = open_detector(SHIPPED, device).network
    photos, by_source = 0, defaultdict[str, list[tuple[float, float]]](list)
    for intake in take_in(open_items(list(folders)), device, faces="largest"):
        if not isinstance(intake, Intake) or not intake.faces:
            continue
        pixels, box = intake.photo.pixels, intake.faces[0].box
        photos += bool(crops := face_crops(pixels, box))
        around = [float(logits_of(network, [each])[0]) for each in windows(pixels, box)]
        if crops and around:
            source = intake.item.relative.partition("/")[0]
            by_source[source].append((float(logits_of(network, crops)[0]), float(np.mean(around))))
    each = [np.array(pairs) for pairs in by_source.values()]
    faces, means = np.concatenate(each).T
    apart = np.concatenate([pairs - pairs.mean(0) for pairs in each]).T
    line = np.polyval(np.polyfit(means, faces, 1), means)
    figures = {
        "photos": photos,
        "with_windows": len(faces),
        "correlation": np.corrcoef(faces, means)[0, 1],
        "correlation_within_sources": np.corrcoef(apart)[0, 1],
        "spread": faces.std(),
        "spread_less_mean": (faces - means).std(),
        "spread_less_line": (faces - line).std(),
    }
    print(json.dumps({name: round(float(value), 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
