"""What looking beyond the border brings and costs, and panoramas: python benchmarks/cut_faces.py FOLDER|TAR ...

Prints JSONL:

- ``cut``: the largest face of each photo, cut in twelve ways so that 20, 35 or 50% of its box lie beyond one border, in
  crops of 250 pixels; ``found`` with the look beyond the border, ``without`` it.
- ``added``: faces that it adds in the whole photos, and the median processor time of a photo with and without it.
- ``panorama``: 18 of the faces, 150 pixels high, in 20000x3000; time, and the process's memory before and at its peak.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from _toolio.errors import InputError
from _toolio.streams.inputs import open_items
from facetools.faces import finder as finder_module
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels

PHOTOS = 60
"""Of each source, drawn at random."""

SHARES = (0.2, 0.35, 0.5)
AROUND = 3.2  # a crop is so many times as high as the face
CROP = 250
WITH = finder_module._MARGIN_SIDE


def search(finder: Finder, pixels: Pixels, margin: int) -> list[Face]:
    """Find faces with or without (0) the look beyond the border."""
    finder_module._MARGIN_SIDE = margin  # type: ignore[misc]
    return finder.find([pixels])[0]


def crops(photo: Image.Image, face: Face) -> list[tuple[float, Pixels, npt.NDArray[np.float64]]]:
    """Return the share that is cut off, the crop, and the face's box in it, for every side and share."""
    x0, y0, x1, y1 = face.box
    width, height, side = x1 - x0, y1 - y0, AROUND * (y1 - y0)
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    made = []
    for share in SHARES:
        for a, b in (
            (x0 + share * width, top), (x1 - share * width - side, top),
            (left, y0 + share * height), (left, y1 - share * height - side),
        ):  # fmt: skip
            place = (max(0, round(a)), max(0, round(b)))
            end = (min(photo.width, round(a + side)), min(photo.height, round(b + side)))
            part = photo.crop((*place, *end))
            scale = CROP / max(part.size)
            part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.BICUBIC)
            made.append((share, np.asarray(part), (np.array(face.box) - [*place, *place]) * scale))
    return made


def is_found(faces: list[Face], box: npt.NDArray[np.float64], size: tuple[int, ...]) -> bool:
    """Test whether a face lies on a box: intersection over union above 0.4, within the photo."""
    limits = [size[1], size[0]] * 2
    inside = np.clip(box, 0, limits)
    for face in faces:
        other = np.clip(face.box, 0, limits)
        shared = (np.minimum(inside[2:], other[2:]) - np.maximum(inside[:2], other[:2])).clip(min=0).prod()
        if shared > 0.4 * ((inside[2:] - inside[:2]).prod() + (other[2:] - other[:2]).prod() - shared):
            return True
    return False


def panorama(finder: Finder, portraits: list[tuple[Image.Image, Face]]) -> None:
    """Measure a panorama of 18 faces."""
    picture = Image.new("RGB", (20_000, 3000), (90, 110, 130))
    for number, (photo, face) in enumerate(portraits[:18]):
        x0, y0, x1, y1 = face.box
        part = photo.crop((int(x0 - x1 + x0), int(y0 - (y1 - y0)), int(2 * x1 - x0), int(2 * y1 - y0)))
        scale = 150 / (y1 - y0)
        part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
        picture.paste(part, (200 + number * 1080, number * 428 % 2500))
    pixels, before = np.asarray(picture), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.thread_time()
    found = len(search(finder, pixels, WITH))
    fields = {"pasted": len(portraits[:18]), "found": found, "processor_s": round(time.thread_time() - start, 2)}
    fields |= {"mb_before": before // 1024, "mb_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    print(json.dumps({"part": "panorama", **fields}), flush=True)


def main(sources: list[str]) -> None:
    """Measure all parts on the photos of some sources."""
    torch.set_num_threads(1)
    finder, cutter = Finder(), Finder(stretch_retry=False, tilt_retry=False)
    cut = {share: [0, 0, 0] for share in SHARES}  # crops, found, found without
    portraits: list[tuple[Image.Image, Face]] = []
    for source in sources:
        items, added, times = list(open_items([source])), 0, ([], [])
        for item in random.Random(0).sample(items, min(PHOTOS, len(items))):
            try:
                pixels = decode_photo(item.read(), item.path).pixels
            except InputError:
                continue
            found = []
            for margin, spent in zip((0, WITH), times, strict=True):
                start = time.thread_time()
                found.append(search(finder, pixels, margin))
                spent.append((time.thread_time() - start) * 1000)
            added += len(found[1]) - len(found[0])
            if not found[0]:
                continue
            portraits.append((Image.fromarray(pixels), found[0][0]))
            for share, part, box in crops(*portraits[-1]):
                counts = cut[share]
                counts[0] += 1
                counts[1] += is_found(search(cutter, part, WITH), box, part.shape)
                counts[2] += is_found(search(cutter, part, 0), box, part.shape)
        about = {"source": source, "photos": len(times[0]), "added": added}
        about |= {"processor_ms": round(median(times[1]), 1), "without_ms": round(median(times[0]), 1)}
        print(json.dumps({"part": "added", **about}), flush=True)
    for share, (number, with_margin, without) in cut.items():
        fields = {"share": share, "crops": number, "found": with_margin, "without": without}
        print(json.dumps({"part": "cut", **fields}), flush=True)
    panorama(finder, portraits)


if __name__ == "__main__":
    main(sys.argv[1:])
