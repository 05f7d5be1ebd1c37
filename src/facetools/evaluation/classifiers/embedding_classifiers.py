"""Classifiers of embeddings: nearest neighbour, logistic regression, and combinations of two extractors.

A classifier is fitted to one split's clean embeddings, and then scores the tests again for each replacement of one
person's training photos. Scores are float64 [tests, people], the lower the likelier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, ToolError, param
from facetools.embeddings.distances import distances
from facetools.evaluation.classifiers.logistic_regression import Refits, Weights

Rows = npt.NDArray[Any]
"""Training or test inputs: embeddings, float32 [n, D], or chips, uint8 [n, height, width, 3]."""

Scores = npt.NDArray[np.float64]

NAMES = ("nn", "linear", "top2", "threshold")
"""``nn``: 1-nearest neighbour. ``linear``: standardised logistic regression. ``top2``, ``threshold``: two models,
an accurate and a robust one, combined. ``end_to_end`` has one more, which learns from chips."""

BLOCK = 1024
"""Tests whose distances are held at once: memory does not grow with the product of tests and training photos."""

TRUSTED_SHARE = 0.95
"""``threshold`` trusts the accurate model up to the distance that this share of training photos keep to the nearest
other photo of the same person."""


@dataclass(frozen=True, slots=True)
class Task:
    """Training and test data of a classifier.

    Attributes
    ----------
    train, train_labels
        Inputs [n, ...] and int [n], numbers of people from 0.
    test, test_labels
        Inputs [t, ...] and int [t].
    people
        Number of people.
    distance
        ``cosine`` or ``euclidean``, between neighbours.
    """

    train: Rows
    train_labels: npt.NDArray[np.int64]
    test: Rows
    test_labels: npt.NDArray[np.int64]
    people: int
    distance: str


class Classifier(Protocol):
    """A trained classifier."""

    answers: int
    """Names that it returns for a photo: it is right if one of them is."""

    def clean(self) -> Scores:
        """Score all tests with nobody cloaked."""

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Score all tests with ``rows`` for all training photos of a person: one array [m, D] a model."""


Labels = npt.NDArray[np.int64]


def by_person(task: Task) -> tuple[Rows, Labels]:
    """Return the training rows sorted by label, and the labels: the last bits of a sum depend on the order."""
    order = np.argsort(task.train_labels, kind="stable")
    return task.train[order], task.train_labels[order]


def replace_person(train: Rows, labels: Labels, person: int, own: Rows) -> tuple[Rows, Labels]:
    """Return copies with other rows in place of one person's; inputs are sorted as by ``by_person``."""
    first, last = np.searchsorted(labels, [person, person + 1])
    kept = np.concatenate([labels[:first], np.full(len(own), person), labels[last:]])
    return np.concatenate([train[:first], own, train[last:]]), kept


class Nearest:
    """1-nearest neighbour: a person's score is the distance to their nearest training photo."""

    answers = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        train, labels = by_person(task)
        present, starts = np.unique(labels, return_index=True)
        self._clean = np.full((len(task.test), task.people), np.inf)
        for first in range(0, len(task.test), BLOCK):
            part = slice(first, first + BLOCK)
            apart = distances(task.test[part], train, task.distance)
            self._clean[part, present] = np.minimum.reduceat(apart, starts, axis=1)

    def clean(self) -> Scores:
        """Return each person's nearest distance."""
        return self._clean.copy()

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Return them with one person's column recomputed; other people's distances do not change."""
        scores, (own,) = self.clean(), rows
        for first in range(0, len(scores), BLOCK):
            part = slice(first, first + BLOCK)
            scores[part, person] = distances(self._task.test[part], own, self._task.distance).min(1)
        return scores


class Linear:
    """Standardised multinomial logistic regression with scikit-learn's defaults (L2, C = 1).

    Each fit is within ``logistic_regression.TOLERANCE`` of the exact one: a warm start from the clean fit that stopped
    by its gradient alone would keep the clean photos in its weights.
    """

    answers = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        self._train, self._labels = by_person(task)
        self._present, numbers = np.unique(self._labels, return_inverse=True)
        self._fits = Refits(self._train, numbers, len(self._present))

    def clean(self) -> Scores:
        """Return scores of the fit to the clean photos."""
        return self._scores(self._fits.first(), self._present)

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Refit, and return scores."""
        train, labels = replace_person(self._train, self._labels, person, rows[0])
        present, numbers = np.unique(labels, return_inverse=True)
        if np.array_equal(present, self._present):
            number = int(np.searchsorted(present, person))
            return self._scores(self._fits.replaced(number, train, numbers), present)
        return self._scores(Refits(train, numbers, len(present)).first(), present)

    def _scores(self, fit: Weights, present: npt.NDArray[np.int64]) -> Scores:
        scores = np.full((len(self._task.test), self._task.people), np.inf)
        scores[:, present] = -fit.scores(self._task.test)
        return scores


class TopTwo:
    """Return the nearest person of an accurate and of a robust model; a human looks at both names."""

    answers = 2

    def __init__(self, accurate: Task, robust: Task) -> None:
        self._accurate, self._robust = Nearest(accurate), Nearest(robust)

    def clean(self) -> Scores:
        """Return both names."""
        return self._both(self._accurate.clean(), self._robust.clean())

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Return both names, with each model's own embeddings of the person."""
        accurate, robust = rows
        return self._both(self._accurate.replaced(person, [accurate]), self._robust.replaced(person, [robust]))

    @staticmethod
    def _both(accurate: Scores, robust: Scores) -> Scores:
        scores = np.full(accurate.shape, np.inf)
        tests = np.arange(len(scores))
        scores[tests, robust.argmin(1)] = 1
        scores[tests, accurate.argmin(1)] = 0
        return scores


class Fallback:
    """Use the accurate model, or the robust one where the accurate one's nearest neighbour is too far away.

    Raises
    ------
    ToolError
        Nobody has two photos to train on.
    """

    answers = 1

    def __init__(self, accurate: Task, robust: Task) -> None:
        self._accurate, self._robust = Nearest(accurate), Nearest(robust)
        self._distance, self._apart = accurate.distance, own_neighbours(accurate)
        if not sum(map(len, self._apart)):
            raise ToolError(
                "threshold: nobody has two photos to train on, which tell how far is too far; give more photos of a "
                f"person, or a larger {param('split')}",
                kind="few-photos",
            )

    def clean(self) -> Scores:
        """Return the scores of the model that is used, test by test."""
        return _answers(self._accurate.clean(), self._robust.clean(), trusted_distance(self._apart))

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Return them with each model's own embeddings of the person."""
        accurate, robust = rows
        answers = self._accurate.replaced(person, [accurate]), self._robust.replaced(person, [robust])
        return _answers(*answers, self.limit_with(person, rows))

    def limit_with(self, person: int, rows: Sequence[Rows]) -> float:
        """Return the distance beyond which the robust model is used, as set on these training photos.

        Raises
        ------
        InputError
            Nobody else has two photos, and the person has one.
        """
        apart = [*self._apart[:person], nearest_others(rows[0], self._distance), *self._apart[person + 1 :]]
        if not sum(map(len, apart)):
            raise InputError(
                "nobody else has two photos to train on, which tell how far is too far; give more", kind="few-photos"
            )
        return trusted_distance(apart)


def _answers(accurate: Scores, robust: Scores, limit: float) -> Scores:
    return np.where(accurate.min(1, keepdims=True) > limit, robust, accurate)


def nearest_others(rows: Rows, distance: str) -> Scores:
    """Return each row's distance to the nearest other one, float64 [n]; [0] of a single row."""
    if len(rows) < 2:
        return np.empty(0)
    apart = distances(rows, rows, distance)
    np.fill_diagonal(apart, np.inf)
    nearest: Scores = apart.min(1)
    return nearest


def own_neighbours(task: Task) -> list[Scores]:
    """Return, for each person, each training photo's distance to the nearest other one of the same person."""
    return [nearest_others(task.train[task.train_labels == person], task.distance) for person in range(task.people)]


def trusted_distance(apart: Sequence[Scores]) -> float:
    """Return the ``TRUSTED_SHARE`` quantile of the distances that ``own_neighbours`` returns."""
    return float(np.quantile(np.concatenate(apart), TRUSTED_SHARE))


def make_classifier(name: str, tasks: Sequence[Task]) -> Classifier:
    """Make a classifier of ``NAMES``; ``tasks`` are the accurate model's, and the robust one's where two are needed."""
    if name == "nn":
        return Nearest(tasks[0])
    if name == "linear":
        return Linear(tasks[0])
    return TopTwo(*tasks) if name == "top2" else Fallback(*tasks)
