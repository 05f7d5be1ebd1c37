"""Make the photos that the shipped detector is trained and measured on.

Usage: python docs/results/scripts/detector_cloaks.py LFW.tar WORK [--second FILE]

LFW.tar holds lfw/<person>/<photo>. People with 8 photos or more are kept for the figures and are in no part of the
training; photos of the others, as they are or varied by vary_photos.py, are cloaked in many ways, each kind of cloak a
stretch of a list of people. WORK/train and WORK/unseen hold a folder a kind, WORK/clean the same photos through the
same saves. An interrupted run goes on where it was.

The option --second FILE names an extractor that joins dlib-resnet in ensembles: what `train-extractor --in LFW.tar
--epochs 10 --batch 32 --held-out 0.2` makes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cloak_figures import DLIB, LEAST, Row, cloak, lay_out, rows, run

SCRIPTS = Path(__file__).parent
SEED = "0"

VARIED = 700
"""Photos that are made to look otherwise."""


class Kind(NamedTuple):
    """One kind of training cloak: of which photos, the first and the last of their list, and perturb's options."""

    name: str
    photos: str
    first: int
    last: int
    options: tuple[str, ...]

    @property
    def attack(self) -> str:
        """What the detector calls it."""
        return self.options[1]


def _kind(name: str, photos: str, first: int, last: int, attack: str, *options: str) -> Kind:
    return Kind(name, photos, first, last, ("--attack", attack, *options))


FAST = ("--set", "steps=8", "--set", "step_size=0.012")
"""LowKey in a sixth of the time: as large a change by fewer steps."""

KINDS = (
    _kind("lowkey", "public", 1, 600, "lowkey"),
    _kind("lowkey-fast", "others", 1, 808, "lowkey", *FAST, "--seed", "1"),
    _kind("lowkey-fast-varied", "varied", 1, 200, "lowkey", *FAST),
    _kind("lowkey-varied", "varied", 261, 320, "lowkey", "--set", "steps=25"),
    _kind(
        "lowkey-ensemble", "first", 1076, 1125, "lowkey", "--set", "steps=25", "--extractor", DLIB, "--extractor", ""
    ),
    _kind("fawkes-v1.0-high", "sorted", 1, 204, "fawkes-v1.0", "--mode", "high"),
    _kind("fawkes-v1.0-mid", "first", 701, 780, "fawkes-v1.0", "--mode", "mid"),
    _kind("fawkes-v1.0-low", "first", 781, 860, "fawkes-v1.0", "--mode", "low"),
    _kind("fawkes-v1.0-high-varied", "varied", 201, 260, "fawkes-v1.0", "--mode", "high"),
    _kind("fawkes-v1.0-mid-varied", "varied", 381, 420, "fawkes-v1.0", "--mode", "mid"),
    _kind(
        "fawkes-v1.0-ensemble",
        "first",
        1176,
        1187,
        "fawkes-v1.0",
        "--mode",
        "high",
        "--extractor",
        DLIB,
        "--extractor",
        "",
    ),
    _kind("fawkes-v0.3-min", "first", 861, 940, "fawkes-v0.3", "--mode", "min"),
    _kind("fawkes-v0.3-low", "first", 601, 700, "fawkes-v0.3", "--mode", "low"),
    _kind("fawkes-v0.3-mid", "first", 941, 990, "fawkes-v0.3", "--mode", "mid"),
    _kind("fawkes-v0.3-high", "first", 1156, 1163, "fawkes-v0.3", "--mode", "high"),
    _kind("fawkes-v0.3-ultra", "first", 1196, 1199, "fawkes-v0.3", "--mode", "ultra"),
    _kind("fawkes-v0.3-low-varied", "varied", 321, 380, "fawkes-v0.3", "--mode", "low"),
    _kind("opom", "first", 991, 1050, "opom"),
    _kind("tip-im", "first", 1051, 1075, "tip-im"),
)
"""Costly ones are few: a cloak's chance to be drawn in training grows with the root of their number."""

TEN = (
    _kind("lowkey-ten", "ten", 1, 20, "lowkey"),
    _kind("fawkes-v1.0_high-ten", "ten", 1, 10, "fawkes-v1.0", "--mode", "high"),
    _kind("opom-ten", "ten", 1, 20, "opom"),
)
"""More of the people kept for the figures: ten photos each."""


def by_hash(names: Iterable[str]) -> list[str]:
    """Put people into an order that nothing but their names decides."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()[:16])


def link(photos: Iterable[Path], folder: Path) -> None:
    """Link photos into a folder, below their people's folders."""
    for photo in photos:
        place = folder / photo.parent.name / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(photo, place)


def lists(work: Path) -> dict[str, list[list[Path]]]:
    """Return the photos of each list, a list a person; people who are kept for the figures are among them."""
    found = {folder.name: sorted(folder.iterdir()) for folder in (work / "figures" / "lfw").iterdir()}
    few, ten = (by_hash(name for name, each in found.items() if (len(each) < 10) is less) for less in (True, False))
    learned = [found[name] for name in few if len(found[name]) < LEAST]
    public = set(few[:600])
    # Photos that are not in "public": the second one of those people, the first two of others.
    others = [[photo] for name in sorted(few) for photo in found[name][name in public : 2]]
    chosen = [photos[1] if len(photos) > 1 else photos[0] for photos in learned[:VARIED]]
    varied = [work / "varied" / photo.parent.name / f"{photo.stem}.png" for photo in chosen]
    if not varied[-1].exists():
        words = [sys.executable, str(SCRIPTS / "vary_photos.py"), SEED, str(work / "varied")]
        subprocess.run(words, input="\n".join(map(str, chosen)), text=True, check=True)
    return {
        "first": [photos[:1] for photos in learned],
        "second": [photos[1:2] for photos in learned],
        "public": [found[name][:1] for name in few[:600]],
        "sorted": [found[name][:1] for name in sorted(few[:600])],
        "others": others,
        "varied": [[photo] for photo in varied],
        "ten": [found[name][:10] for name in ten],
    }


def make(work: Path, folder: str, kind: Kind, photos: Sequence[Sequence[Path]], second: str) -> None:
    """Cloak a kind's photos; those of people kept for the figures are no training photos."""
    source, records = work / "sets" / kind.name, work / "records" / f"{kind.name}.jsonl"
    chosen = [photo for each in photos[kind.first - 1 : kind.last] for photo in each]
    lfw = work / "figures" / "lfw"
    seen = folder == "train"
    link((p for p in chosen if not seen or len(list((lfw / p.parent.name).iterdir())) < LEAST), source)
    options = [option or second for option in kind.options]
    words: list[str | Path] = ["perturb", "--resume", "--faces", "central", "--format", "png", "--in", source]
    words += [] if "--seed" in options else ["--seed", SEED]
    if kind.attack in ("fawkes-v0.3", "tip-im"):
        targets = work / "targets.safetensors"
        made: list[str | Path] = ["embed", "--force", "--faces", "largest", "--in", work / "targets", "--out", targets]
        run(made, work / "records" / "targets.jsonl")
        words += ["--targets", targets]
    words += ["--save-mask", work / "records" / f"{kind.name}.safetensors"] if kind.attack == "opom" else []
    run([*words, *options, "--out", work / folder / kind.name], records)


def main(lfw: Path, work: Path, second: str) -> None:
    """Make what is missing."""
    (work / "records").mkdir(parents=True, exist_ok=True)
    figures = work / "figures"
    figures.mkdir(exist_ok=True)
    lay_out(lfw, figures)
    photos = lists(work)
    link((photo for each in photos["first"][::4] for photo in each), work / "targets")
    for name in ("first", "second", "varied"):
        link((photo for each in photos[name] for photo in each), work / "photos" / name)
        words: list[str | Path] = ["perturb", "--resume", "--attack", "none", "--copy-faceless", "--format", "png"]
        run(
            [*words, "--in", work / "photos" / name, "--out", work / "clean" / name], work / "records" / f"{name}.jsonl"
        )
    for kind in KINDS:
        make(work, "train", kind, photos[kind.photos], second)
    for kind in TEN:
        make(work, "unseen", kind, photos[kind.photos], second)
    for row in [*rows(second), Row("fawkes-v1.0", "high", (DLIB, second), 2)]:
        cloak(figures, row, [])


if __name__ == "__main__":
    given = sys.argv[1:]
    joined = given[given.index("--second") + 1] if "--second" in given else DLIB
    places = [Path(word) for word in given if word not in ("--second", joined)]
    main(places[0], places[1], joined)
