"""Make the photos that the shipped detector is trained and measured on.

Usage: python docs/results/scripts/detector_cloaks.py WORK --second FILE [--without NAME] PHOTOS [PHOTOS ...]

PHOTOS are folders or tars of clean photos. One that holds lfw/<person>/<photo> is one source; of any other the folders
below its top folder are the sources. WORK/photos gets a folder a source, and WORK/cloaked a folder a kind of cloak, in
which every source has its share. An interrupted run goes on where it was. Where a source has a folder a person, those
with eight photos or more are left out: they are kept for figures.

The option --second FILE names an extractor beside dlib-resnet that cloaks are made against, so that the detector does
not learn the texture of one network's gradient; --without NAME leaves out folders of that name, such as photos that are
cloaked already.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cloak_figures import DLIB, run

SCRIPTS = Path(__file__).parent
SEED = "0"

KEPT = 8
"""People with as many photos or more are kept for the figures."""

ENDINGS = (".jpg", ".jpeg", ".png")
"""Of photos."""

MOST = 600
"""Most photos of a source; the first by the hash of their paths."""

VARIED = 150
"""Photos of the largest source that are also made to look otherwise: smaller, larger, sharpened, grained."""


class Kind(NamedTuple):
    """One kind of cloak: how many photos, and perturb's options; an empty one stands for the second extractor."""

    name: str
    photos: int
    options: tuple[str, ...]

    @property
    def attack(self) -> str:
        """What the detector calls it."""
        return self.options[0]


FAST = ("--set", "steps=8", "--set", "step_size=0.012")
"""LowKey in a sixth of the time: as large a change by fewer steps."""

PUBLISHED = ("--set", "large_brightness=0")
"""LowKey as the paper has it: large faces get stains of colour."""

AGAIN = ("--extractor", "")

KINDS = (
    Kind("lowkey-fast", 260, ("lowkey", *FAST)),
    Kind("lowkey-second", 120, ("lowkey", *AGAIN, "--set", "steps=16", "--set", "step_size=0.007")),
    Kind("fawkes-v0.3-min", 110, ("fawkes-v0.3", "--mode", "min")),
    Kind("fawkes-v0.3-low", 80, ("fawkes-v0.3", "--mode", "low")),
    Kind("fawkes-v1.0-low", 110, ("fawkes-v1.0", "--mode", "low")),
    Kind("opom", 60, ("opom",)),
    Kind("lowkey", 120, ("lowkey",)),
    Kind("lowkey-low", 80, ("lowkey", "--mode", "low", *FAST)),
    Kind("lowkey-published", 100, ("lowkey", *PUBLISHED, *FAST)),
    Kind("fawkes-v1.0-high", 70, ("fawkes-v1.0", "--mode", "high")),
    Kind("fawkes-v0.3-low-second", 40, ("fawkes-v0.3", "--mode", "low", *AGAIN)),
    Kind("fawkes-v1.0-high-second", 40, ("fawkes-v1.0", "--mode", "high", *AGAIN)),
    Kind("fawkes-v1.0-mid", 60, ("fawkes-v1.0", "--mode", "mid")),
    Kind("fawkes-v0.3-mid", 40, ("fawkes-v0.3", "--mode", "mid")),
    Kind("tip-im", 40, ("tip-im", "--set", "steps=30")),
    Kind("fawkes-v0.3-high", 14, ("fawkes-v0.3", "--mode", "high")),
    Kind("fawkes-v0.3-ultra", 7, ("fawkes-v0.3", "--mode", "ultra")),
)
"""Costly ones are few: a cloak's chance to be drawn in training grows with the root of their number."""


def _order(*words: str) -> str:
    """Return a key that nothing but names decides."""
    return hashlib.sha256(" ".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def unpack(inputs: Iterable[Path], work: Path) -> None:
    """Unpack tars, and link folders, below WORK/inputs."""
    for given in inputs:
        place = work / "inputs" / given.name
        if place.exists():
            continue
        partial = place.with_suffix(".partial")
        if given.is_dir():
            partial.symlink_to(given.resolve())
        else:
            with tarfile.open(given) as archive:
                archive.extractall(partial, filter="data")
        partial.rename(place)


def sources(work: Path, without: Collection[str]) -> dict[str, list[tuple[Path, str]]]:
    """Return each source's photos and their paths below it, but those in folders called as in ``without``."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for place in sorted((work / "inputs").iterdir()):
        root = place
        while len(inside := [path for path in root.iterdir() if not path.name.startswith(".")]) == 1:
            root = inside[0]
        # A folder of many people is one source; one of a few collections is several.
        parts = [root] if root.name == "lfw" else sorted(path for path in root.iterdir() if path.is_dir())
        for part in parts:
            photos = [(p, p.relative_to(part)) for p in sorted(part.rglob("*")) if p.suffix.lower() in ENDINGS]
            found[part.name] = [(p, at.as_posix()) for p, at in photos if not {*at.parts[:-1]} & {*without}]
    return found


def choose(photos: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Leave out people who are kept for the figures, and take at most MOST photos, spread over people."""
    people: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for photo, relative in photos:
        people[relative.rpartition("/")[0]].append((photo, relative))
    few = len(people) > len(photos) / KEPT
    usable = [each for each in people.values() if not few or len(each) < KEPT]
    # Everybody's first photos before anybody's second.
    queue = [
        (place, _order(relative), photo, relative) for each in usable for place, (photo, relative) in enumerate(each)
    ]
    return [(photo, relative) for _, _, photo, relative in sorted(queue, key=lambda each: each[:2])][:MOST]


def lay_out(work: Path, without: Collection[str] = ()) -> dict[str, list[str]]:
    """Link each source's photos into WORK/photos, with varied copies; return their paths below it, by source."""
    laid: dict[str, list[str]] = {}
    found = {name: choose(photos) for name, photos in sources(work, without).items()}
    largest = max(found, key=lambda name: (len(found[name]), name))
    for name, photos in found.items():
        for photo, relative in photos:
            link(photo, work / "photos" / name / relative)
        laid[name] = [f"{name}/{relative}" for _, relative in photos]
    done = work / "photos" / largest / "varied"
    if not done.exists():
        words = [sys.executable, str(SCRIPTS / "vary_photos.py"), SEED, str(done.with_suffix(".partial"))]
        chosen = "\n".join(str(photo) for photo, _ in found[largest][-VARIED:])
        subprocess.run(words, input=chosen, text=True, check=True)
        done.with_suffix(".partial").rename(done)
    laid[largest] += sorted(p.relative_to(work / "photos").as_posix() for p in done.rglob("*.png"))
    return laid


def link(photo: Path, place: Path) -> None:
    """Link a photo to a place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        os.link(photo.resolve(), place)


def draw(kind: Kind, laid: Mapping[str, Sequence[str]]) -> list[str]:
    """Draw a kind's photos: of each source in proportion to the root of its size, at least one."""
    roots = {name: len(photos) ** 0.5 for name, photos in laid.items()}
    chosen = []
    for name, photos in laid.items():
        share = max(1, round(kind.photos * roots[name] / sum(roots.values())))
        chosen += sorted(photos, key=lambda photo: _order(kind.name, photo))[:share]
    return chosen


def make(work: Path, kind: Kind, photos: Iterable[str], second: str) -> None:
    """Cloak a kind's photos."""
    source, records = work / "sets" / kind.name, work / "records" / f"{kind.name}.jsonl"
    for photo in photos:
        link(work / "photos" / photo, source / photo)
    options = [option or second for option in kind.options]
    words: list[str | Path] = ["perturb", "--resume", "--format", "png", "--seed", SEED, "--in", source]
    words += ["--faces", "largest", "--attack", *options, "--out", work / "cloaked" / kind.name]
    if kind.attack in ("fawkes-v0.3", "tip-im"):
        words += ["--targets", targets_of(work, second if second in options else DLIB)]
    words += ["--save-mask", work / "records" / f"{kind.name}.safetensors"] if kind.attack == "opom" else []
    run(words, records)


def targets_of(work: Path, extractor: str) -> Path:
    """Return the people that targeted attacks pull to, embedded by an extractor."""
    return work / "records" / f"targets-{Path(extractor).stem}.safetensors"


def main(work: Path, inputs: Sequence[Path], second: str, without: Sequence[str]) -> None:
    """Make what is missing."""
    (work / "records").mkdir(parents=True, exist_ok=True)
    unpack(inputs, work)
    laid = lay_out(work, without)
    largest = max(laid.values(), key=len)
    for photo in largest[:MOST:4]:
        link(work / "photos" / photo, work / "targets" / photo)
    for extractor in (DLIB, second):
        out = targets_of(work, extractor)
        words: list[str | Path] = ["embed", "--force", "--faces", "largest", "--in", work / "targets", "--out", out]
        run([*words, "--extractor", extractor], out.with_suffix(".jsonl"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda kind: make(work, kind, draw(kind, laid), second), KINDS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the photos that the detector is trained and measured on.")
    parser.add_argument("work", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--second", required=True)
    parser.add_argument("--without", action="append", default=[])
    given = parser.parse_args()
    main(given.work, given.photos, given.second, given.without)
