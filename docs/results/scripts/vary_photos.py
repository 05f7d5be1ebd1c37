"""Vary photos in scale, sharpness, grain and colour, as photos of people vary.

Usage: python docs/results/scripts/vary_photos.py SEED OUT < list of photos

Each photo is scaled, perhaps made grey, sharpened, blurred, grained or saved as JPEG, by draws from
(SEED, its path), and written as PNG below OUT, under the person's folder. A detector that has met only one
camera takes every other for a cloak.
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from facetools.photos.photo import to_bytes
from facetools.transforms.augment import blur, scale, sharpen


def vary(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change one photo; about a third of the draws leave each property alone."""
    pixels = scale(np.array(photo), float(np.exp(rng.uniform(np.log(0.6), np.log(2.0)))), rng)
    if rng.random() < 0.35:
        pixels = np.array(Image.fromarray(pixels).convert("L"))
    if rng.random() < 0.3:
        pixels = sharpen(pixels, rng)
    elif rng.random() < 0.2:
        pixels = blur(pixels, rng)
    if rng.random() < 0.4:
        colour = pixels.ndim == 3 and rng.random() < 0.5
        noise = rng.normal(0, rng.uniform(1, 9), pixels.shape if colour else pixels.shape[:2])
        pixels = to_bytes(pixels + (noise if colour or pixels.ndim == 2 else noise[..., None]))
    photo = Image.fromarray(pixels)
    if rng.random() < 0.4:
        out = io.BytesIO()
        photo.save(out, format="JPEG", quality=int(rng.integers(40, 97)))
        photo = Image.open(out)
    return photo


def main(seed: str, out: Path) -> None:
    """Vary every photo that standard input names."""
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        name = f"{path.parent.name}/{path.stem}.png"
        drawn = hashlib.sha256(f"{seed} {name}".encode()).digest()
        with Image.open(path) as photo:
            varied = vary(photo.convert("RGB"), np.random.default_rng(int.from_bytes(drawn[:8], "big")))
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        varied.save(out / name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
