"""Measure how well the detector tells cloaked from clean faces: the tables of docs/results/detector.md.

Usage: python docs/results/scripts/detector_figures.py WORK [REAL ...]

WORK is what detector_cloaks.py made, with what `train-detector --folds --keep-folds` wrote there: each source's photos
are scored by the detector of the fold that was trained without it, at thresholds that were chosen without it. REAL are
folders SOURCE:ATTACK=PATH of cloaks that the real programs made. Prints Markdown tables: clean photos by source, as
they are and after what happens to photos; cloaks by kind, as PNG, after that, and as `perturb` saves them, with how far
a saved cloak still moves the embedding; which attacks are named; calibration. Intervals are 95%: Wilson's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from change_photos import change
from detector_cloaks import KINDS
from facetools.cloaking.change import measure_distances
from facetools.extractors.factory import open_extractor
from facetools.faces.face import face_of
from facetools.metrics import area_under_roc, calibration_bins, calibration_error, share_interval
from facetools.people import photo_of
from facetools.photos.codec import decode_photo, encode_photo
from facetools.photos.saving import Saving
from facetools.transforms.augment import ODD

WAYS = ("jpeg:90", "jpeg:75", "resize:0.5", "site")
"""What happens to photos; ``site`` is 1080 pixels wide at most, JPEG 85."""

MOST = 4
"""Photos of a source, or of a kind of cloak in a source, that are changed."""

SAVED = 5
"""Cloaks of a kind in a source that are saved as `perturb` saves them."""

Record = dict[str, Any]


def site(pixels: np.ndarray) -> np.ndarray:
    """Reduce a photo to a width of 1080 pixels at most, and save it as JPEG 85."""
    wide = pixels.shape[1]
    return change(change(pixels, f"resize:{min(1.0, 1080 / wide):.6f}", "") if wide > 1080 else pixels, "jpeg:85", "")


def detectors(work: Path) -> dict[str, Path]:
    """Return the detector of each source: that which was trained without it."""
    found = {}
    for path in work.glob("*.without-*.safetensors"):
        for source in path.name.split(".without-")[1].removesuffix(".safetensors").split("+"):
            found[source] = path
    return found


def detect(detector: Path, photos: Iterable[Path]) -> list[Record]:
    """Score the largest face of photos."""
    words = [sys.executable, "-m", "facetools", "detect", "--detector", str(detector), "--faces", "largest", "-0"]
    given = "\0".join(map(str, photos))
    done = subprocess.run([*words, "--in", "-"], input=given, stdout=subprocess.PIPE, text=True, check=True)
    return [record for line in done.stdout.splitlines() if (record := json.loads(line))["score"] is not None]


def changed(work: Path, folder: str, way: str, photos: Sequence[Path]) -> list[Path]:
    """Write photos of a folder of WORK after what happens to them, PNG, and return where."""
    out = []
    for photo in photos:
        relative = photo.relative_to(work / folder)
        target = work / "changed" / way / folder / f"{relative}.png"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = decode_photo(photo.read_bytes(), str(photo)).pixels
            after = site(pixels) if way == "site" else change(pixels, way, photo_of(str(relative)))
            partial = target.with_suffix(".partial")
            Image.fromarray(after).save(partial, "PNG", compress_level=1)
            partial.rename(target)
        out.append(target)
    return out


def saved_as_perturb_does(work: Path, kind: str, cloaks: Sequence[Path]) -> list[Path]:
    """Write cloaks as `perturb` saves them by default, in their photo's own format and quality."""
    out = []
    for path in cloaks:
        relative = path.relative_to(work / "cloaked" / kind)
        original = work / "photos" / relative.with_suffix("")
        if not original.exists():  # a photo that was PNG already
            continue
        photo = decode_photo(original.read_bytes(), str(original))
        target = work / "changed" / "saved" / kind / Saving().name(str(relative.with_suffix("")), photo.format)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_photo(photo, decode_photo(path.read_bytes(), str(path)).pixels))
        out.append(target)
    return out


def few(photos: Sequence[Path]) -> Sequence[Path]:
    """Return at most ``MOST`` of the photos, evenly spread."""
    return photos[:: -(-len(photos) // MOST) or 1]


def share(hits: int, of: int) -> str:
    """Write a share with its interval."""
    if not of:
        return "-"
    low, high = share_interval(hits, of)
    return f"{hits / of:.1%} ({low:.1%}-{high:.1%})"


def labelled(records: Sequence[Record], label: str = "cloaked") -> str:
    """Write the share of faces with a label."""
    return share(sum(record["label"] == label for record in records), len(records))


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def side(record: Record) -> float:
    """Return the longer side of a face."""
    x0, y0, x1, y1 = record["box"]
    return float(max(x1 - x0, y1 - y0))


class Figures:
    """Score what is in WORK by the detectors that have not seen it."""

    def __init__(self, work: Path) -> None:
        self.work, self.by = work, detectors(work)
        self.clean = {source: self._photos(work / "photos" / source) for source in sorted(self.by)}
        self.extractor = open_extractor("dlib-resnet", torch.device("cpu"))
        self.kinds = [kind for kind in KINDS if (work / "cloaked" / kind.name).exists()]

    @staticmethod
    def _photos(folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def scored(self, photos: Mapping[str, Sequence[Path]]) -> dict[str, list[Record]]:
        """Score photos of each source by its detector: one run a detector."""
        found: dict[str, list[Record]] = {source: [] for source in photos}
        for detector in sorted(set(self.by.values())):
            whose = {str(p): source for source, each in photos.items() if self.by[source] == detector for p in each}
            for record in detect(detector, map(Path, whose)) if whose else []:
                found[whose[record["path"]]].append(record)
        return found

    def scored_by_kind(self, photos: Mapping[str, Mapping[str, Sequence[Path]]]) -> dict[str, list[Record]]:
        """Score photos of each kind and source: one run a detector for all kinds."""
        whose = {str(path): kind for kind, each in photos.items() for path in chain.from_iterable(each.values())}
        together = {source: [p for each in photos.values() for p in each[source]] for source in self.by}
        found: dict[str, list[Record]] = {kind: [] for kind in photos}
        for record in chain.from_iterable(self.scored(together).values()):
            found[whose[record["path"]]].append(record)
        return found

    def after(self, way: str, folder: str, photos: Mapping[str, Sequence[Path]]) -> dict[str, list[Record]]:
        """Score photos of a folder of WORK after what happens to photos."""
        return self.scored({source: changed(self.work, folder, way, few(each)) for source, each in photos.items()})

    def clean_tables(self) -> list[Record]:
        """Print what clean photos are called, and return their records."""
        plain = self.scored(self.clean)
        after = {way: self.after(way, "photos", self.clean) for way in (*WAYS, *ODD)}
        rows = []
        for source, records in plain.items():
            median = np.median([record["score"] for record in records])
            cells = [source, len(records), labelled(records), labelled(records, "unclear"), f"{median:.3f}"]
            rows.append([*cells, *(labelled(after[way][source]) for way in WAYS)])
        head = ["clean photos", "faces", "called cloaked", "unclear", "median score", *WAYS]
        table("Clean photos, each source by a detector that has seen nothing of it", head, rows)
        every = list(chain.from_iterable(plain.values()))
        bounds = (0, 60, 100, 200, 400, 10**6)
        sizes = {
            f"{low} to {high}" if high < 10**6 else f"over {low}": [r for r in every if low <= side(r) < high]
            for low, high in pairwise(bounds)
        }
        changes = {way: list(chain.from_iterable(after[way].values())) for way in ODD}
        for title, parts in (("The same by the face's side in pixels", sizes), ("Clean photos that look odd", changes)):
            rows = [[name, len(part), labelled(part), labelled(part, "unclear")] for name, part in parts.items()]
            table(title, ["", "faces", "called cloaked", "unclear"], rows)
        return every

    def cloak_tables(self, clean: Sequence[Record]) -> None:
        """Print what is found of cloaks."""
        before = np.array([record["score"] for record in clean])
        rows, saved, every = [], [], []
        named: dict[str, list[str | None]] = defaultdict(list)
        cloaks = {
            kind.name: {source: self._photos(self.work / "cloaked" / kind.name / source) for source in self.by}
            for kind in self.kinds
        }
        plain, kept = self.scored_by_kind(cloaks), self._saved(cloaks)
        after = {
            way: self.scored_by_kind(
                {
                    name: {s: changed(self.work, f"cloaked/{name}", way, few(each)) for s, each in photos.items()}
                    for name, photos in cloaks.items()
                }
            )
            for way in WAYS
        }
        for kind in self.kinds:
            records = plain[kind.name]
            every += [record["score"] for record in records]
            scores = np.array([record["score"] for record in records])
            area = area_under_roc(np.r_[before, scores], np.arange(len(before) + len(scores)) >= len(before))
            cells = [kind.name, len(records), f"{area:.4f}", labelled(records), labelled(records, "unclear")]
            rows.append([*cells, *(labelled(after[way][kind.name]) for way in WAYS)])
            named[kind.attack] += [record["attack"] for record in records if record["label"] == "cloaked"]
            saved.append(self._saved_row(kind.name, kept[kind.name]))
        head = ["cloaks", "faces", "AUC", "found", "unclear", *WAYS]
        table("Cloaks, each source by a detector that has seen nothing of it: lossless, and after", head, rows)
        head = ["cloaks", "faces", "moved, lossless", "moved, saved", "found"]
        table("Cloaks as `perturb` saves them by default: JPEG as JPEG", head, saved)
        rows = []
        for attack, names in named.items():
            given = [name for name in names if name]
            right = sum(name == attack for name in given)
            rows.append([attack, len(names), share(len(given), len(names)), share(right, len(given))])
        table("Attacks that are named", ["cloaks", "found", "named", "rightly"], rows)
        rng = np.random.default_rng(0)
        count = min(len(before), len(every))
        both = np.r_[rng.choice(before, count, replace=False), rng.choice(every, count, replace=False)]
        error = calibration_error(calibration_bins(both, np.arange(2 * count) >= count))
        print(f"\nCalibration: expected error {error:.4f} over {2 * count} faces, half of them cloaked.")

    def _saved(self, cloaks: Mapping[str, Mapping[str, Sequence[Path]]]) -> dict[str, list[Record]]:
        """Score a few cloaks of each kind and source as `perturb` saves them."""
        return self.scored_by_kind(
            {
                kind: {source: saved_as_perturb_does(self.work, kind, each[:SAVED]) for source, each in photos.items()}
                for kind, photos in cloaks.items()
            }
        )

    def _saved_row(self, kind: str, records: Sequence[Record]) -> list[object]:
        """Return a row: how far cloaks move the embedding before and after they are saved, and what is found."""
        moved = [self._moved(kind, record) for record in records]
        lines = map(json.loads, (self.work / "records" / f"{kind}.jsonl").read_text().splitlines())
        lossless = [record["moved"] for record in lines if record.get("moved") is not None]
        return [kind, len(records), f"{np.median(lossless):.3f}", f"{np.median(moved):.3f}", labelled(records)]

    def _moved(self, kind: str, record: Record) -> float:
        path = Path(record["path"])
        relative = path.relative_to(self.work / "changed" / "saved" / kind)
        original = next((self.work / "photos" / relative.parent).glob(f"{path.stem}.*"))
        clean, cloaked = (decode_photo(each.read_bytes(), str(each)).pixels for each in (original, path))
        face = face_of(record, str(path))
        assert face is not None
        return measure_distances(clean, cloaked, face, [self.extractor])[self.extractor.name]


def real_table(figures: Figures, folders: Sequence[str]) -> None:
    """Print what is made of cloaks of the real programs; NAME is source:attack, and the source's detector scores."""
    rows = []
    for each in folders:
        name, _, path = each.partition("=")
        source, _, attack = name.partition(":")
        records = detect(figures.by[source], sorted(p for p in Path(path).rglob("*") if p.is_file()))
        clean = detect(figures.by[source], figures.clean[source])
        scores = np.array([r["score"] for r in (*clean, *records)])
        auc = area_under_roc(scores, np.arange(len(scores)) >= len(clean))
        given = [r["attack"] for r in records if r["label"] == "cloaked" and r["attack"]]
        right = sum(attack.startswith(one) or one in attack for one in given)
        rows.append(
            [
                Path(path).name,
                len(records),
                f"{auc:.4f}",
                labelled(records),
                labelled(records, "unclear"),
                share(right, len(given)),
            ]
        )
    table("Cloaks made by the real programs", ["cloaks", "faces", "AUC", "found", "unclear", "named rightly"], rows)


def main(work: Path, real: Sequence[str]) -> None:
    """Print all tables."""
    figures = Figures(work)
    real_table(figures, real)
    figures.cloak_tables(figures.clean_tables())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
