"""What protecting everybody in turn costs: python benchmarks/evaluate.py [EMBEDDINGS.jsonl].

Of 118 people with 4,300 photos (random clouds, or the embeddings given), each is protected in turn with copies that are
moved at random. Prints one JSON object a classifier: seconds for all people (the linear one's PyTorch is imported in
them), of a clock and of processors, and those that scikit-learn takes to fit and predict for each, measured on a few
people in the same run and scaled up. Linear fits are on one thread, ours and its: more wait for each other where cores
are shared. Its stop where its default tolerance says, ours ``logistic_regression.TOLERANCE`` from the exact weights. At
most 10 s are asked of ``nn``, 15 s of ``linear``; past that it exits 1.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from _toolio.streams.inputs import Item
from facetools.evaluation.cloaks import Cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import Gallery, name_people
from facetools.evaluation.gallery_sources import read_gallery

PEOPLE, PHOTOS, WIDTH, PEER_PEOPLE = 118, 4300, 128, 3
LIMITS = {"nn": 10.0, "linear": 15.0}
"""Seconds."""


def clouds() -> Gallery:
    """Make people of random clouds."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, PEOPLE, PHOTOS))
    rows = rng.normal(size=(PEOPLE, WIDTH))[labels] + 0.7 * rng.normal(size=(PHOTOS, WIDTH))
    items = tuple(Item(f"{label}/{number}", f"{label}/{number}") for number, label in enumerate(labels))
    return Gallery("clouds", "", "euclidean", items, rows.astype(np.float32))


def peer(classifier: str, rows: Any, labels: Any, asked: Any) -> float:
    """Time one fit and prediction of scikit-learn, in seconds."""
    start = time.perf_counter()
    made = (
        KNeighborsClassifier(n_neighbors=1)
        if classifier == "nn"
        else make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    )
    with threadpool_limits(1 if classifier == "linear" else None):
        made.fit(rows, labels).predict(asked)
    return time.perf_counter() - start


def main(words: list[str]) -> int:
    """Measure both classifiers; 1 if one takes longer than it may."""
    late = 0
    clean = read_gallery(words[0]) if words else clouds()
    people = name_people(clean)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, clean.embeddings.std(), clean.embeddings.shape).astype(np.float32)
    moved = clean.embeddings + noise
    copies = Gallery(clean.extractor, clean.digest, clean.distance, clean.items, moved)
    for classifier in ("nn", "linear"):
        start, start_busy = time.perf_counter(), time.process_time()
        evaluation = Evaluation(
            [clean], [[copies]], [Cloaks("moved", np.arange(len(people)), ())], people, ProtocolConfig()
        )
        done = list(evaluation.run(classifier, evaluation.protected))
        seconds, busy = time.perf_counter() - start, time.process_time() - start_busy
        task = evaluation._tasks[0][0]
        # The same work: one person's photos moved.
        rows = [
            task.train + (task.train_labels == person)[:, None] * noise[: len(task.train)]
            for person in range(PEER_PEOPLE)
        ]
        alone = median(peer(classifier, each, task.train_labels, task.test) for each in rows)
        figures: dict[str, Any] = {"classifier": classifier, "seconds": round(seconds, 2)}
        figures |= {"processor_seconds": round(busy, 2), "limit": LIMITS[classifier]}
        figures |= {"scikit_learn_seconds": round(alone * len(evaluation.protected), 1)}
        figures |= {"people": len(done), "photos": len(people), "dimensions": moved.shape[1]}
        print(json.dumps(figures), flush=True)
        late += seconds > LIMITS[classifier]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
