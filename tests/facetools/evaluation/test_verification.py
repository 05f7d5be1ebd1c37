"""Verification at fixed false accept rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from facetools.evaluation.classifiers.embedding_classifiers import Task
from facetools.evaluation.cloaks import Cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import Gallery
from facetools.evaluation.verification import Verifier
from galleries import WIDTH, gallery_of


def test_verification_keeps_its_false_accept_rate(clean: Gallery, people: list[str]) -> None:
    """Few pairs: only what the rate allows of different people passes, and a rate below one pair has no limit."""
    names = [f"{person}/{n}.jpg" for n, person in enumerate(people)]
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(people), WIDTH))
    plain = gallery_of(rows, names)
    cloaks = Cloaks("0", np.arange(len(people)), ())
    evaluation = Evaluation([plain], [[plain]], [cloaks], people, ProtocolConfig(split=0.5))
    task = evaluation._tasks[0][0]
    verifier = Verifier([task])
    apart = np.linalg.norm(task.test[:, None].astype(float) - task.train, axis=2)
    others = apart[task.test_labels[:, None] != task.train_labels]
    assert np.isnan(verifier.limits[1])
    assert (others <= verifier.limits[0]).sum() == int(1e-3 * len(others)) == 1
    own = task.train[task.train_labels == 2]
    pairs, hits, none = verifier.accepted(0, 2, own)
    mine = apart[np.ix_(task.test_labels == 2, task.train_labels == 2)]
    assert (pairs, hits, none) == (mine.size, (mine <= verifier.limits[0]).sum(), 0)


def test_limits_are_those_of_all_folds_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetools.evaluation.verification.FALSE_ACCEPT_RATES", (0.25, 0.125))

    def fold(test: Sequence[float], train: Sequence[float]) -> Task:
        test, train = (np.array(each, np.float32).reshape(-1, 1) for each in (test, train))
        labels = np.ones(len(train), np.int64)
        return Task(train, labels, test, np.zeros(len(test), np.int64), 2, "euclidean")

    # 1 2 3 4 and 10 20 30 40, and a fold that asks nobody: of eight pairs two pass, and one.
    verifier = Verifier([fold([0], [1, 2, 3, 4]), fold([0], [10, 20, 30, 40]), fold([], [5])])
    assert verifier.limits.tolist() == [np.nextafter(3, 0), np.nextafter(2, 0)]
