"""Change photos at random, clean and cloaked copies of one photo alike.

Usage: python docs/results/scripts/change_photos.py CHANGE IN OUT

CHANGE is one of ``facetools.transforms.augment.CHANGES``, or a fixed step such as jpeg:75 or resize:0.5. IN is a
folder; its photos are written as PNG below OUT. Draws depend on the change, and on a photo's path below IN up to the
first dot of its name.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from facetools.photos.photo import Pixels
from facetools.transforms.augment import CHANGES
from facetools.transforms.preprocess import parse_preprocess


def change(pixels: Pixels, name: str, photo: str) -> Pixels:
    """Change one photo, uint8 [H, W, 3]."""
    if ":" in name:
        return parse_preprocess(name).apply(pixels)[0]
    drawn = hashlib.sha256(f"{name} {photo}".encode()).digest()
    return CHANGES[name](pixels, np.random.default_rng(int.from_bytes(drawn[:8], "big")))


def main(name: str, source: Path, out: Path) -> None:
    """Change every photo of a folder."""
    for path in sorted(path for path in source.rglob("*") if path.suffix in (".png", ".jpg")):
        relative = path.relative_to(source)
        photo = f"{relative.parent}/{path.name.partition('.')[0]}"
        target = out / relative.parent / f"{path.name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as opened:
            pixels = np.array(opened.convert("RGB"), np.uint8)
        Image.fromarray(change(pixels, name, photo)).save(target, compress_level=1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
