"""A recogniser trained end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from _toolio.errors import ToolError
from facetools.evaluation.classifiers.embedding_classifiers import Task
from facetools.evaluation.classifiers.end_to_end import EndToEnd
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.training.loop import TrainingConfig

SIZE = (112, 112)


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    """A small network that sees coarse patterns, which is all that these people are."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(147, 64), nn.ReLU(), nn.Linear(64, 16))
    network = Prepared(inner, mobilefacenet.SETTINGS).eval().requires_grad_(False)
    return Extractor("small", "mobilefacenet", network, mobilefacenet.SETTINGS, 16, "0" * 64)


def task(seed: int = 0) -> Task:
    """Four people: each a smooth pattern of their own, with noise."""
    rng = np.random.default_rng(seed)
    patterns = np.kron(rng.integers(40, 215, (4, 7, 7, 3)), np.ones((1, 16, 16, 1)))
    labels = np.repeat(np.arange(4), 6)
    chips = np.clip(patterns[labels] + rng.normal(0, 15, (24, *SIZE, 3)), 0, 255).astype(np.uint8)
    asked = np.arange(24) % 3 == 0
    return Task(chips[~asked], labels[~asked], chips[asked], labels[asked], 4, "cosine")


def test_it_tells_people_apart_and_learns_whatever_it_is_shown(extractor: Extractor) -> None:
    given, before = task(), next(iter(extractor.network.state_dict().values())).clone()
    trained = EndToEnd(given, extractor, TrainingConfig(epochs=20, batch=32, learning_rate=3e-3))
    scores = trained.clean()
    assert scores.shape == (8, 4)
    assert (scores.argmin(1) == given.test_labels).all()
    # Person 0 posts photos of somebody else's pattern: who looks like person 0 is not known any more.
    other = np.clip(255 - given.train[given.train_labels == 0].astype(int), 0, 255).astype(np.uint8)
    fooled = trained.replaced(0, [other])
    assert (fooled.argmin(1)[given.test_labels == 0] != 0).all()
    assert (fooled.argmin(1)[given.test_labels != 0] == given.test_labels[given.test_labels != 0]).all()
    assert torch.equal(before, next(iter(extractor.network.state_dict().values())))


def test_each_training_is_cold(extractor: Extractor) -> None:
    """Whom it was asked about before changes nothing."""
    given, schedule = task(1), TrainingConfig(epochs=1, batch=32, learning_rate=1e-4)
    other = given.train[given.train_labels == 1][::-1].copy()
    asked = EndToEnd(given, extractor, schedule)
    asked.clean()
    asked.replaced(2, [other])
    assert np.array_equal(asked.replaced(1, [other]), EndToEnd(given, extractor, schedule).replaced(1, [other]))


def test_a_person_without_training_photos_is_never_named(extractor: Extractor) -> None:
    given = task(2)
    kept = given.train_labels != 3
    without = Task(given.train[kept], given.train_labels[kept], given.test, given.test_labels, 4, "cosine")
    scores = EndToEnd(without, extractor, TrainingConfig(epochs=1, batch=32, learning_rate=1e-4)).clean()
    assert np.isinf(scores[:, 3]).all()


def test_a_training_that_diverges_gives_no_scores(extractor: Extractor) -> None:
    """NaN scores would name the first person on every photo, and be counted as protection."""
    with pytest.raises(ToolError, match="the loss became NaN or infinite"):
        EndToEnd(task(), extractor, TrainingConfig(epochs=3, batch=8, learning_rate=1e30)).clean()
