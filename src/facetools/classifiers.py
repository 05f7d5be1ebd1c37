"""How a trainer of a recogniser tells people apart, given embeddings: nearest neighbour, linear, two models at once.

A classifier is made of one split's clean embeddings, and then asked again and again how its answers change if the
training photos of one person are others. It answers with scores, float64 [tests, people], the lower the likelier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, ToolError
from facetools.metrics import distances

Rows = npt.NDArray[Any]
"""What a classifier learns from: embeddings, float32 [n, D], or chips, uint8 [n, height, width, 3]."""

Scores = npt.NDArray[np.float64]

NAMES = ("nn", "linear", "top2", "threshold")
"""``nn``: 1-nearest neighbour. ``linear``: standardised logistic regression. ``top2``, ``threshold``: two models,
an accurate and a robust one, that answer together or one for the other. ``facetools.end_to_end`` has one more, which
learns from chips."""

BLOCK = 1024
"""Tests whose distances are held at once: memory does not grow with the product of tests and training photos."""

TRUSTED_SHARE = 0.95
"""``threshold`` trusts the accurate model up to the distance that this share of training photos keep to the nearest
other photo of the same person."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a classifier is trained on and asked.

    Attributes
    ----------
    train, train_labels
        [n, ...] and int [n], numbers of people from 0.
    test, test_labels
        [t, ...] and int [t].
    people
        How many people there are.
    distance
        ``cosine`` or ``euclidean``; what neighbours are measured with.
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
    """Names that it gives for a photo: it is right if one of them is."""

    def clean(self) -> Scores:
        """Score all tests with nobody cloaked."""

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Score all tests with ``rows`` for all training photos of a person: one array [m, D] a model."""


class Nearest:
    """1-nearest neighbour: a person's score is the distance to the nearest training photo of theirs."""

    answers = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        order = np.argsort(task.train_labels, kind="stable")
        train = task.train[order]
        present, starts = np.unique(task.train_labels[order], return_index=True)
        self._clean = np.full((len(task.test), task.people), np.inf)
        for first in range(0, len(task.test), BLOCK):
            part = slice(first, first + BLOCK)
            apart = distances(task.test[part], train, task.distance)
            self._clean[part, present] = np.minimum.reduceat(apart, starts, axis=1)

    def clean(self) -> Scores:
        """Give each person's nearest distance."""
        return self._clean.copy()

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Give them with one person's column anew: the others' distances stay as they are."""
        scores, (own,) = self.clean(), rows
        for first in range(0, len(scores), BLOCK):
            part = slice(first, first + BLOCK)
            scores[part, person] = distances(self._task.test[part], own, self._task.distance).min(1)
        return scores


class Linear:
    """Standardised multinomial logistic regression with scikit-learn's defaults (L2, C = 1), fitted cold each time."""

    answers = 1

    def __init__(self, task: Task) -> None:
        self._task = task

    def clean(self) -> Scores:
        """Fit and score."""
        return self._fit(self._task.train, self._task.train_labels)

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Fit anew from nothing: a start from the clean fit would keep the clean photos in its weights."""
        kept, (own,) = self._task.train_labels != person, rows
        labels = np.concatenate([self._task.train_labels[kept], np.full(len(own), person)])
        return self._fit(np.concatenate([self._task.train[kept], own]), labels)

    def _fit(self, train: Rows, labels: npt.NDArray[np.int64]) -> Scores:
        # In one order whoever was replaced: the last bits of a sum, and so a close call, depend on it.
        order = np.argsort(labels, kind="stable")
        present, numbers = np.unique(labels[order], return_inverse=True)
        weights, biases = fit_logistic(train[order], numbers, len(present))
        scores = np.full((len(self._task.test), self._task.people), np.inf)
        scores[:, present] = -(self._task.test @ weights + biases)
        return scores


def fit_logistic(
    train: Rows, labels: npt.NDArray[np.int64], people: int, *, tolerance: float = 3e-6, most_steps: int = 2000
) -> tuple[Scores, Scores]:
    """Fit standardisation and multinomial logistic regression, from zero weights.

    Minimises, with z a standardised row::

        mean_i CE(W^T z_i + b, y_i) + |W|^2 / (2 n)

    which is what scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression())`` minimises. The objective is
    strictly convex in W, so there is one answer, and a tolerance decides how near to it the fit ends.

    Parameters
    ----------
    train, labels
        float32 [n, D] and int [n], 0 to ``people`` - 1.
    people
        Number of classes, 2 or more.
    tolerance
        Largest slope, of the mean objective in the space it is descended in, at which the fit ends. float32 can tell
        down to 1e-6; below that it computes in float64.
    most_steps
        Steps of L-BFGS at most.

    Returns
    -------
    float64 [D, people], float64 [people]
        Weights and biases for rows as they are, not standardised.
    """
    import torch

    kind = torch.float32 if tolerance >= 1e-6 else torch.float64
    exact = torch.from_numpy(train).double()
    mean, deviation = exact.mean(0), exact.std(0, correction=0)
    deviation[deviation < 10 * torch.finfo(torch.float32).eps * mean.abs().clamp(min=1e-30)] = 1.0
    standardised, y = (exact - mean) / deviation, torch.from_numpy(labels)
    count, width = standardised.shape
    # Descend in coordinates where a typical Hessian is the identity. It is Z^T Z / people + 1 at zero weights, and has
    # hundreds of times less of Z^T Z at the end; features of embeddings depend on each other so much that L-BFGS
    # takes several times as many steps without this, and a third more with either end of the way.
    curvature = standardised.T @ standardised * (0.1 / people) + torch.eye(width, dtype=torch.float64)
    triangle = torch.linalg.cholesky(curvature).T
    back = torch.linalg.solve_triangular(triangle, torch.eye(width, dtype=torch.float64), upper=True)  # W = back @ V
    rows, ridge = (standardised @ back).to(kind), (back.T @ back).to(kind)
    weights, biases = torch.zeros(width, people, dtype=kind), torch.zeros(people, dtype=kind)
    chosen = torch.nn.functional.one_hot(y, people).to(kind)

    def objective() -> Any:
        scores = (rows @ weights).add_(biases).log_softmax(1)
        shrunk = ridge @ weights
        loss = -scores.gather(1, y[:, None]).double().mean() + (weights * shrunk).double().sum() / (2 * count)
        # In closed form: autograd would take twice the passes over [n, people].
        surplus = scores.exp_().sub_(chosen)
        weights.grad = (rows.T @ surplus).add_(shrunk).div_(count)
        biases.grad = surplus.mean(0)
        return loss

    optimizer = torch.optim.LBFGS(
        [weights, biases],
        max_iter=most_steps,
        max_eval=2 * most_steps,
        tolerance_grad=tolerance,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    with torch.no_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    scaled = back @ weights.double() / deviation[:, None]
    return scaled.numpy(), (biases.double() - mean @ scaled).numpy()


class TopTwo:
    """An accurate and a robust model each name the nearest person; a human looks at both names."""

    answers = 2

    def __init__(self, accurate: Task, robust: Task) -> None:
        self._accurate, self._robust = Nearest(accurate), Nearest(robust)

    def clean(self) -> Scores:
        """Give both names."""
        return self._both(self._accurate.clean(), self._robust.clean())

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Give both names, with each model's own embeddings of the person."""
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
    """The accurate model answers, unless its nearest neighbour is too far away: then the robust one does.

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
                "person, or a larger --split",
                kind="few-photos",
            )

    def clean(self) -> Scores:
        """Give the scores of the model that answers, test by test."""
        return _answers(self._accurate.clean(), self._robust.clean(), _trusted(self._apart))

    def replaced(self, person: int, rows: Sequence[Rows]) -> Scores:
        """Give them with each model's own embeddings of the person."""
        accurate, robust = rows
        answers = self._accurate.replaced(person, [accurate]), self._robust.replaced(person, [robust])
        return _answers(*answers, self.limit_with(person, rows))

    def limit_with(self, person: int, rows: Sequence[Rows]) -> float:
        """Give the distance from which on the robust model answers, as a trainer knows it who has these photos.

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
        return _trusted(apart)


def _answers(accurate: Scores, robust: Scores, limit: float) -> Scores:
    return np.where(accurate.min(1, keepdims=True) > limit, robust, accurate)


def nearest_others(rows: Rows, distance: str) -> Scores:
    """Give each row's distance to the nearest other one, float64 [n]; [0] of a single row."""
    if len(rows) < 2:
        return np.empty(0)
    apart = distances(rows, rows, distance)
    np.fill_diagonal(apart, np.inf)
    nearest: Scores = apart.min(1)
    return nearest


def own_neighbours(task: Task) -> list[Scores]:
    """Give, for each person, how far their training photos are from the nearest other one of theirs."""
    return [nearest_others(task.train[task.train_labels == person], task.distance) for person in range(task.people)]


def trusted_distance(task: Task) -> float:
    """Give the distance within which ``TRUSTED_SHARE`` of training photos have another of the same person."""
    return _trusted(own_neighbours(task))


def _trusted(apart: Sequence[Scores]) -> float:
    return float(np.quantile(np.concatenate(apart), TRUSTED_SHARE))


def make_classifier(name: str, tasks: Sequence[Task]) -> Classifier:
    """Make a classifier of ``NAMES``; ``tasks`` are the accurate model's, and the robust one's where two are needed."""
    if name == "nn":
        return Nearest(tasks[0])
    if name == "linear":
        return Linear(tasks[0])
    return TopTwo(*tasks) if name == "top2" else Fallback(*tasks)
