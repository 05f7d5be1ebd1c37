"""Classifiers against independent ones: scikit-learn, and distances computed anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facetools.evaluation.classifiers.embedding_classifiers import (
    Fallback,
    Linear,
    Nearest,
    Task,
    TopTwo,
    make_classifier,
    own_neighbours,
    trusted_distance,
)
from facetools.evaluation.classifiers.logistic_regression import Refits, fit_cold


def task_of(seed: int = 0, *, people: int = 12, each: int = 9, width: int = 24, distance: str = "euclidean") -> Task:
    """People as overlapping clouds, some of whose axes hardly vary."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, 0.01, width)
    middles = rng.normal(size=(people, width)) * scales
    rows = (middles[:, None] + 0.7 * rng.normal(size=(people, each, width)) * scales).astype(np.float32)
    labels = np.repeat(np.arange(people), each)
    asked = np.tile(np.arange(each) >= each - 3, people)
    rows = rows.reshape(-1, width)
    return Task(rows[~asked], labels[~asked], rows[asked], labels[asked], people, distance)


def with_person(task: Task, person: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = task.train_labels != person
    return np.concatenate([task.train[kept], rows]), np.append(task.train_labels[kept], np.full(len(rows), person))


@pytest.fixture
def task() -> Task:
    return task_of()


@pytest.fixture
def strange(task: Task) -> np.ndarray:
    """Person 4's photos, moved to where person 7 is."""
    own, other = (task.train[task.train_labels == n] for n in (4, 7))
    moved: np.ndarray = own * 0.3 + other * 0.7
    return moved


def test_nearest_neighbours_are_those_of_scikit_learn(task: Task, strange: np.ndarray) -> None:
    for rows, labels, scores in (
        (task.train, task.train_labels, Nearest(task).clean()),
        (*with_person(task, 4, strange), Nearest(task).replaced(4, [strange])),
    ):
        judge = KNeighborsClassifier(n_neighbors=1).fit(rows, labels)
        assert scores.argmin(1).tolist() == judge.predict(task.test).tolist()
        apart = judge.kneighbors(task.test)[0][:, 0]
        np.testing.assert_allclose(scores.min(1), apart, rtol=1e-5)


def test_one_person_replaced_leaves_the_clean_answers_alone(task: Task, strange: np.ndarray) -> None:
    nearest = Nearest(task)
    before = nearest.clean()
    assert (nearest.replaced(4, [strange]) != before).any()
    np.testing.assert_array_equal(nearest.clean(), before)


def judged(rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What scikit-learn's pipeline, fitted far beyond its default tolerance, says of the tests."""
    judge = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=50_000))
    judge.fit(rows.astype(np.float64), labels)
    scores: np.ndarray = judge.decision_function(asked.astype(np.float64))
    # Adding one number to all of a test's scores changes nothing.
    return scores - scores.mean(1, keepdims=True)


def test_the_linear_fit_is_scikit_learns_cold_one(task: Task, strange: np.ndarray) -> None:
    linear = Linear(task)
    for rows, labels, scores in (
        (task.train, task.train_labels, linear.clean()),
        (*with_person(task, 4, strange), linear.replaced(4, [strange])),
    ):
        wanted = judged(rows, labels, task.test)
        found = -scores + scores.mean(1, keepdims=True)
        np.testing.assert_allclose(found, wanted, atol=0.01)
        assert found.argmax(1).tolist() == wanted.argmax(1).tolist()
        order = np.argsort(labels, kind="stable")
        problem, weights = fit_cold(rows[order], labels[order], task.people, tolerance=1e-6)
        exact = problem.unstandardised(weights).scores(task.test)
        np.testing.assert_allclose(exact - exact.mean(1, keepdims=True), wanted, atol=2e-5)


def test_a_linear_fit_is_independent_of_what_was_fitted_before(task: Task, strange: np.ndarray) -> None:
    after = Linear(task)
    after.clean()
    np.testing.assert_array_equal(after.replaced(4, [strange]), Linear(task).replaced(4, [strange]))


def test_a_person_replaced_by_their_own_photos_changes_no_bit(task: Task) -> None:
    linear, own = Linear(task), task.train[task.train_labels == 4]
    np.testing.assert_array_equal(linear.replaced(4, [own]), linear.clean())


def test_a_feature_that_never_varies_is_no_obstacle(task: Task) -> None:
    rows = task.train.copy()
    rows[:, 3] = 0.1
    fit = Refits(rows, task.train_labels, task.people).first()
    assert np.isfinite(fit.weights).all()
    assert np.isfinite(fit.biases).all()
    assert abs(fit.weights[3]).max() < 1e-6


def test_people_without_training_photos_are_never_named(task: Task) -> None:
    kept = task.train_labels != 4
    less = Task(task.train[kept], task.train_labels[kept], task.test, task.test_labels, task.people, task.distance)
    for scores in (Nearest(less).clean(), Linear(less).clean()):
        assert np.isinf(scores[:, 4]).all()
        assert np.isfinite(np.delete(scores, 4, 1)).all()


def test_two_names_are_those_of_both_models(task: Task, strange: np.ndarray) -> None:
    other = task_of(1)
    robust = Task(other.train, task.train_labels, other.test, task.test_labels, task.people, "euclidean")
    both = TopTwo(task, robust)
    own = robust.train[robust.train_labels == 4]
    scores = both.replaced(4, [strange, own])
    first, second = Nearest(task).replaced(4, [strange]).argmin(1), Nearest(robust).clean().argmin(1)
    for row, a, b in zip(scores, first, second, strict=True):
        assert set(np.flatnonzero(np.isfinite(row))) == {a, b}
        assert row[a] == 0


def test_the_robust_model_answers_where_the_accurate_one_is_far_from_everybody(task: Task) -> None:
    other = task_of(1)
    far = task.test.copy()
    far[:5] += 100
    accurate = Task(task.train, task.train_labels, far, task.test_labels, task.people, "euclidean")
    robust = Task(other.train, task.train_labels, other.test, task.test_labels, task.people, "euclidean")
    found, a, b = (each.clean() for each in (Fallback(accurate, robust), Nearest(accurate), Nearest(robust)))
    near = a.min(1) <= trusted_distance(own_neighbours(accurate))
    assert 0 < near.sum() < len(near) - 4
    np.testing.assert_array_equal(found[near], a[near])
    np.testing.assert_array_equal(found[~near], b[~near])


def test_the_trusted_distance_is_a_share_of_own_neighbours() -> None:
    rows = np.array([[0.0], [1], [10], [12], [30], [33], [50]], np.float32)
    labels = np.array([0, 0, 1, 1, 2, 2, 3])
    line = Task(rows, labels, rows, labels, 4, "euclidean")
    # 1 1 2 2 3 3; the last person has one photo and no neighbour.
    assert trusted_distance(own_neighbours(line)) == pytest.approx(np.quantile([1, 1, 2, 2, 3, 3], 0.95))


@pytest.mark.parametrize(("name", "models"), [("nn", 1), ("linear", 1), ("top2", 2), ("threshold", 2)])
def test_every_name_makes_a_classifier(name: str, models: int, task: Task) -> None:
    made = make_classifier(name, [task] * models)
    assert made.clean().shape == (len(task.test), task.people)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_many_tests_are_measured_block_by_block(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(distance=distance)
    whole = Nearest(task)
    monkeypatch.setattr("facetools.evaluation.classifiers.embedding_classifiers.BLOCK", 5)
    parts = Nearest(task)
    strange = task.train[task.train_labels == 7] * 0.5
    shown: list[Callable[[Nearest], np.ndarray]] = [lambda c: c.clean(), lambda c: c.replaced(7, [strange])]
    for show in shown:
        np.testing.assert_allclose(show(parts), show(whole), rtol=1e-9, atol=1e-12)
