"""Measure how well extractors identify people: the table of docs/results/extractors.md.

Usage: python docs/results/scripts/extractor_figures.py [--held-out SHARE] PHOTOS OUT [EXTRACTOR ...]

PHOTOS holds a folder a person; people with fewer than 10 photos are left out, and, with ``--held-out SHARE`` before
PHOTOS, those that `train-extractor --held-out SHARE --seed 0` trains on. The face nearest a photo's middle is the
person's. Embeds with `facetools embed` (faces are searched for once), and prints one JSON object an extractor: rank-1
accuracy of the nearest neighbour (70% of a person's photos known, 30% tested, drawn with seed 0) with its 95% bootstrap
interval over people, and of all pairs of photos the area under the ROC curve and the equal error rate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from _toolio.tensors.reader import open_safetensors, read_metadata
from cloak_figures import run
from facetools.embeddings.distances import distances
from facetools.metrics import area_under_roc, equal_error_rate, mean_interval
from facetools.people import is_held_out, person_of

LEAST_PHOTOS = 10


def find_faces(photos: Path, out: Path, share: float | None) -> Path:
    """Embed with the default extractor; its records say where the faces are."""
    records = out / "faces.jsonl"
    if not records.exists():
        folders = [f for f in sorted(photos.iterdir()) if f.is_dir() and len(list(f.iterdir())) >= LEAST_PHOTOS]
        folders = [f for f in folders if share is None or is_held_out(f.name, 0, share)]
        paths = "\n".join(str(photo) for folder in folders for photo in sorted(folder.iterdir()))
        embed(paths, records, out / "faces.safetensors", "dlib-resnet")
    return records


def embed(lines: str, records: Path, file: Path, extractor: str) -> None:
    """Run ``facetools embed`` on records or paths; its records are there when it is done."""
    words: list[str | Path] = ["embed", "--force", "--faces", "central", "--in", "-", "--extractor", extractor]
    run([*words, "--out", file], records, lines)


def measure(file: Path) -> dict[str, object]:
    """Measure the embeddings of a file."""
    about = read_metadata(file)
    with open_safetensors(file) as opened:
        embeddings = np.array(opened.tensor("embeddings"))
    people = np.array([person_of(row["path"]) for row in about["rows"]])
    kind = about["extractor"]["distance"]
    apart = distances(embeddings, embeddings, kind)
    upper = np.triu_indices(len(people), 1)
    same = people[upper[0]] == people[upper[1]]
    known = np.zeros(len(people), bool)
    for person in np.unique(people):
        rows = np.flatnonzero(people == person)
        rng = np.random.default_rng([0, *person.encode()])
        known[rng.permutation(rows)[: round(0.7 * len(rows))]] = True
    nearest = people[known][apart[np.ix_(~known, known)].argmin(1)]
    right = nearest == people[~known]
    each = [right[people[~known] == person].mean() for person in np.unique(people)]
    mean, low, high = mean_interval(each)
    return {
        "extractor": about["extractor"]["name"],
        "rank1": round(float(right.mean()), 5),
        "rank1_mean_over_people": round(mean, 5),
        "rank1_95": [round(low, 5), round(high, 5)],
        "auc": round(area_under_roc(-apart[upper], same) or 0, 6),
        "eer": round(equal_error_rate(-apart[upper], same) or 0, 5),
        "people": len(each),
        "photos": len(people),
        "pairs": len(same),
    }


def main(photos: Path, out: Path, extractors: list[str], share: float | None = None) -> None:
    """Embed with each extractor what is not embedded yet, and print the figures."""
    out.mkdir(parents=True, exist_ok=True)
    records = find_faces(photos, out, share)
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    # Only what says where a face is: the rows of this file are no rows of the next one.
    keys = ("path", "relative", "face", "box", "confidence", "landmarks")
    found = [json.dumps({key: line[key] for key in keys}) for line in lines if line.get("landmarks")]
    for extractor in extractors:
        file = out / f"{Path(extractor).stem}.safetensors"
        if not file.exists():
            embed("\n".join(found), file.with_suffix(".jsonl"), file, extractor)
        print(json.dumps(measure(file)), flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    held_out = float(words[1]) if words[0] == "--held-out" else None
    given = words if held_out is None else words[2:]
    main(Path(given[0]), Path(given[1]), given[2:] or ["dlib-resnet"], held_out)
