"""Measure the detector's folds on the faces that they were not trained on: two tables of docs/results/detector.md.

Usage: python docs/results/scripts/detector_folds.py WORK

WORK is what detector_cloaks.py made, with the detectors that `train-detector --folds --keep-folds` wrote there. Each
source is scored by the detector that was trained without it, at thresholds that were chosen without it, as training
scores it: faces as they are kept for training, and some of them after changes. Prints Markdown tables: cloaks by kind,
clean faces after changes, attacks that are named, and the expected calibration error of each source.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from detector_cloaks import KINDS
from detector_figures import detectors, share, table
from facetools.detector.calibration import calibrate_sources
from facetools.detector.files import open_detector
from facetools.detector.platt import Numbers, scores_of
from facetools.detector.scoring import MOST_CHANGED, UnseenScores, score_sources
from facetools.detector.training.examples import read_examples
from facetools.metrics import calibration_bins, calibration_error

WAYS = ("mild-jpeg", "resize", "crop", "jpeg")
"""Changes to cloaked faces in the table."""


class Folds:
    """Faces of sources, their scores by detectors that have not seen the source, and tables of these."""

    def __init__(self, work: Path) -> None:
        cpu, by = torch.device("cpu"), detectors(work)
        kinds = [kind for kind in KINDS if (work / "cloaked" / kind.name).exists()]
        self.kinds = sorted(kinds, key=lambda kind: kind.name)
        folders = [[str(work / "photos")], *([str(work / "cloaked" / kind.name)] for kind in self.kinds)]
        examples = read_examples(folders, cpu)
        self.attacks = open_detector(next(iter(by.values())), cpu).attacks
        numbers = [self.attacks.index(kind.attack) for kind in self.kinds]
        self.scores: dict[str, UnseenScores] = {}
        for path in sorted(set(by.values())):
            unseen = [example for example in examples if by.get(example.group) == path]
            self.scores |= score_sources(open_detector(path, cpu).network, unseen, numbers)
        self.calibrations = {
            source: calibrate_sources({n: s for n, s in self.scores.items() if n != source}, false_alarms=0.005)
            for source in self.scores
        }
        self.cloaked = {
            source: [self.kinds[e.cloak] for e in examples if e.group == source and e.cloaked] for source in self.scores
        }

    def scored(self, source: str, logits: Numbers) -> Numbers:
        """Return the scores of a source's faces."""
        return scores_of(logits[:, 0], self.calibrations[source].temperature, self.calibrations[source].offset)

    def hits(self, source: str, logits: Numbers) -> list[bool]:
        """Test which of a source's faces are called cloaked."""
        found: list[bool] = (self.scored(source, logits) >= self.calibrations[source].at().cloaked_from).tolist()
        return found

    def cloaks_table(self) -> None:
        """Print what is found of each kind."""
        found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        after: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for source, each in self.scores.items():
            kinds, below = self.cloaked[source], self.calibrations[source].at().clean_below
            scored = self.scored(source, each.cloaked)
            for kind, hit, score in zip(kinds, self.hits(source, each.cloaked), scored, strict=True):
                found[kind.name].append((hit, not hit and bool(score >= below)))
            for way, changed in each.cloaked_after.items():
                few = kinds[:: -(-len(kinds) // MOST_CHANGED) or 1]
                for kind, hit in zip(few, self.hits(source, changed), strict=True):
                    after[kind.name, way].append(hit)
        rows = [
            [name, len(hits), *(share(sum(column), len(hits)) for column in zip(*hits, strict=True))]
            + [f"{np.mean(part):.0%} of {len(part)}" if (part := after[name, way]) else "-" for way in WAYS]
            for name, hits in sorted(found.items())
        ]
        table("Cloaks", ["cloaks", "faces", "found", "unclear", *WAYS], rows)

    def changes_table(self) -> None:
        """Print how many clean faces are called cloaked after each change."""
        odd: dict[str, list[bool]] = defaultdict(list)
        for source, each in self.scores.items():
            for way, changed in each.clean_after.items():
                odd[way] += self.hits(source, changed)
        rows = [[way, len(hits), share(sum(hits), len(hits))] for way, hits in odd.items()]
        table("Clean faces after changes", ["change", "clean faces", "called cloaked"], rows)

    def attacks_table(self) -> None:
        """Print how often the attack of a cloak that is found is named, and rightly."""
        named: dict[str, list[bool | None]] = defaultdict(list)
        for source, each in self.scores.items():
            least = self.calibrations[source].attack_share
            hits = self.hits(source, each.cloaked)
            for kind, hit, logits in zip(self.cloaked[source], hits, each.cloaked, strict=True):
                shares = torch.softmax(torch.from_numpy(logits[2:]), 0)
                sure = least is not None and float(shares.max()) >= least
                if hit:
                    named[kind.attack].append(self.attacks[int(shares.argmax())] == kind.attack if sure else None)
        rows = []
        for attack, names in named.items():
            given = [name for name in names if name is not None]
            rows.append([attack, len(names), share(len(given), len(names)), share(sum(given), len(given))])
        table("Attacks", ["cloaks", "found", "named", "rightly"], rows)

    def calibration_table(self) -> None:
        """Print how far scores are from chances."""
        rng, rows = np.random.default_rng(0), []
        for source, each in self.scores.items():
            least = min(len(each.clean), len(each.cloaked))
            parts = [self.scored(source, logits) for logits in (each.clean, each.cloaked)]
            both = np.concatenate([rng.choice(part, least, replace=False) for part in parts])
            if least:
                error = calibration_error(calibration_bins(both, np.arange(2 * least) >= least))
                rows.append([source, 2 * least, f"{error:.3f}"])
        table("Calibration", ["source", "faces, half of them cloaked", "expected error"], rows)


if __name__ == "__main__":
    folds = Folds(Path(sys.argv[1]))
    folds.cloaks_table()
    folds.changes_table()
    folds.attacks_table()
    folds.calibration_table()
