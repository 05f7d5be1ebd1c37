"""Measure the thresholds of `facetools match`: the table of docs/results/matching.md.

Usage: python docs/results/scripts/match_thresholds.py EMBEDDINGS [ELSEWHERE ...]

EMBEDDINGS are of photos in a folder a person, made with `facetools embed --faces central`. Prints one JSON object a
false accept rate: the threshold on all pairs of photos of different people, its 95% bootstrap interval over people
(pairs of a person who was drawn twice with themselves do not count), and the true accept rate. Then, at each
threshold, how well average and single linkage group the photos into people: pairwise precision and recall. ELSEWHERE
are embeddings of other photos: both rates of the thresholds there. A photo in no folder is of a person of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from facetools.embeddings.clustering import cluster_faces
from facetools.embeddings.matching import Faces, nearest_pairs, read_embedded
from facetools.embeddings.thresholds import FALSE_ACCEPT_RATES, calibrated_threshold
from facetools.metrics import share_interval
from facetools.people import person_of

DRAWS = 1000
Numbers = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]


def people_of(faces: Faces) -> Numbers:
    """Return the number of each face's person."""
    names = [person_of(face.item.relative) for face in faces.faces]
    return np.unique(names, return_inverse=True)[1]


def pairs_of(whose: Numbers) -> tuple[int, int]:
    """Count pairs of different people, and of one person."""
    same = int((np.bincount(whose) * (np.bincount(whose) - 1) // 2).sum())
    return len(whose) * (len(whose) - 1) // 2 - same, same


def threshold_interval(faces: Faces, whose: Numbers, far: float, threshold: float) -> tuple[float, float]:
    """Resample people: each pair of two people counts as often as both were drawn."""
    impostors, _ = pairs_of(whose)
    found = nearest_pairs(faces, None, 2 * threshold, most=round(5 * far * impostors) + pairs_of(whose)[1])
    a, b = whose[found.first], whose[found.second]
    other = a != b
    a, b, apart = a[other], b[other], found.distances[other]
    sizes, rng = np.bincount(whose), np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(len(sizes), size=len(sizes)), minlength=len(sizes))
        each = times * sizes
        pairs = (each.sum() ** 2 - (each * each).sum()) / 2
        passed = np.cumsum(times[a] * times[b])
        drawn.append(apart[np.searchsorted(passed, far * pairs)])
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def accepted_interval(apart: Distances, whose: Numbers, threshold: float) -> tuple[float, float]:
    """Resample people: the 95% bootstrap interval of the true accept rate."""
    people = np.unique(whose, return_inverse=True)[1]
    hits, of = (np.bincount(people, weights=each) for each in (apart <= threshold, np.ones(len(apart))))
    drawn = np.random.default_rng(0).integers(len(of), size=(DRAWS, len(of)))
    low, high = np.percentile(hits[drawn].sum(1) / of[drawn].sum(1), (2.5, 97.5))
    return float(low), float(high)


def same_person(faces: Faces, whose: Numbers) -> tuple[Distances, Numbers]:
    """Return the distances of all pairs of one person, and the person of each."""
    points = faces.points()
    found: list[Distances] = []
    people: list[Numbers] = []
    for person in np.unique(whose):
        own = points[whose == person]
        upper = np.triu_indices(len(own), 1)
        apart = np.concatenate([np.linalg.norm(own[n + 1 :] - own[n], axis=1) for n in range(len(own))])
        found.append(apart**2 / 2 if faces.distance == "cosine" else apart)
        people.append(np.full(len(upper[0]), person))
    return np.concatenate(found), np.concatenate(people)


def grouping(faces: Faces, whose: Numbers, threshold: float) -> Iterator[dict[str, object]]:
    """Group by average and by single linkage."""
    groups = {"average": cluster_faces(faces, threshold)[0], "single": single_linkage(faces, threshold)}
    for name, group in groups.items():
        both = pairs_of(np.unique(np.stack([group, whose]), axis=1, return_inverse=True)[1].ravel())[1]
        together, own = pairs_of(group)[1], pairs_of(whose)[1]
        yield {
            "linkage": name,
            "threshold": round(threshold, 4),
            "precision": round(both / together, 4),
            "recall": round(both / own, 4),
            "groups": int(group.max()) + 1,
            "largest": int(np.bincount(group).max()),
            "people": int(whose.max()) + 1,
        }


def single_linkage(faces: Faces, threshold: float) -> Numbers:
    """Join all that a chain of pairs within the threshold connects."""
    parent = list(range(len(faces.faces)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    found = nearest_pairs(faces, None, threshold, most=10_000_000)
    for a, b in zip(found.first.tolist(), found.second.tolist(), strict=True):
        parent[root(a)] = root(b)
    return np.unique([root(number) for number in range(len(parent))], return_inverse=True)[1]


def rates(faces: Faces, whose: Numbers, thresholds: Sequence[float]) -> dict[str, object]:
    """Measure both rates at thresholds on other photos."""
    impostors, same = pairs_of(whose)
    apart = same_person(faces, whose)[0]
    found: dict[str, object] = {"photos": len(whose), "people": int(whose.max()) + 1, "pairs": impostors}
    for threshold in thresholds:
        genuine = int((apart <= threshold).sum())
        wrong = nearest_pairs(faces, None, threshold).within - genuine
        low, high = share_interval(genuine, same) if same else (None, None)
        found[f"{threshold:.4f}"] = {
            "far": wrong / impostors,
            "tar": genuine / same if same else None,
            "tar_95": [low, high],
        }
    return found


def main(file: str, elsewhere: list[str]) -> None:
    """Print all figures."""
    faces = read_embedded([file])[0]
    whose, name = people_of(faces), faces.faces[0].extractor
    names = [str(number) for number in whose]
    impostors, same = pairs_of(whose)
    apart, people = same_person(faces, whose)
    thresholds = []
    for far in FALSE_ACCEPT_RATES:
        threshold = calibrated_threshold(faces, names, far).distance
        thresholds.append(threshold)
        figures = {
            "extractor": name["name"],
            "sha256": name["sha256"],
            "distance": name["distance"],
            "far": far,
            "threshold": threshold,
            "threshold_95": threshold_interval(faces, whose, far, threshold),
            "tar": float((apart <= threshold).mean()),
            "tar_95": accepted_interval(apart, people, threshold),
            "people": int(whose.max()) + 1,
            "photos": len(whose),
            "pairs_of_different_people": impostors,
            "pairs_of_one_person": same,
        }
        print(json.dumps(figures), flush=True)
    for threshold in thresholds:
        for figures in grouping(faces, whose, threshold):
            print(json.dumps(figures), flush=True)
    for other in elsewhere:
        there = read_embedded([other])[0]
        print(json.dumps({"input": other, **rates(there, people_of(there), thresholds)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
