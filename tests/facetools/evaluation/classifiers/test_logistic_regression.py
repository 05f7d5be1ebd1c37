"""Fits of the linear classifier against scikit-learn's exact ones, and what a start from others leaves in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from _toolio.compute.device import one_thread
from _toolio.errors import ToolError
from facetools.evaluation.classifiers import logistic_regression as logistic
from facetools.evaluation.classifiers.logistic_regression import (
    TOLERANCE,
    Objective,
    Refits,
    Weights,
    descend,
    fit_cold,
    settle,
)

PEOPLE, EACH, WIDTH = 20, 8, 48


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Embeddings of length 1 whose features depend on each other: a condition number of thousands, standardised."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(WIDTH, WIDTH)) * np.geomspace(1, 0.01, WIDTH)[:, None]
    faces = rng.normal(size=(PEOPLE, 1, WIDTH)) + 0.5 * rng.normal(size=(PEOPLE, EACH + 4, WIDTH))
    found = (faces @ mix).astype(np.float32)
    made: np.ndarray = found / np.linalg.norm(found, axis=2, keepdims=True)
    return made


@pytest.fixture(scope="module")
def train(rows: np.ndarray) -> np.ndarray:
    return rows[:, :EACH].reshape(-1, WIDTH)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.repeat(np.arange(PEOPLE), EACH)


@pytest.fixture(scope="module")
def refits(train: np.ndarray, labels: np.ndarray) -> Refits:
    return Refits(train, labels, PEOPLE)


def exact(train: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's weights for standardised rows, for rows as they are, and biases; for three people or more."""
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    judge = LogisticRegression(solver="newton-cholesky", tol=1e-8, max_iter=1000)
    judge.fit((train - mean) / deviation, labels)
    weights, biases = judge.coef_.T, judge.intercept_
    return weights, weights / deviation[:, None], biases - mean / deviation @ weights


def off(found: Weights, train: np.ndarray, labels: np.ndarray) -> float:
    """How far weights are from the exact ones, both for standardised rows."""
    apart = found.weights * train.std(0, dtype=np.float64)[:, None] - exact(train, labels)[0]
    return float(np.linalg.norm(apart))


def disguises(train: np.ndarray, person: int) -> Iterator[tuple[str, np.ndarray]]:
    """Copies of a person's photos as cloaks make them, and as none does."""
    rng = np.random.default_rng(person)
    own, other = (train.reshape(PEOPLE, EACH, WIDTH)[n] for n in (person, (person + 7) % PEOPLE))
    yield "noise", own + rng.normal(0, train.std(), own.shape)
    yield "other", 0.2 * own + 0.8 * other
    yield "spike", train.mean(0) + 3 * rng.normal(size=WIDTH) * train.std(0) + 0.1 * (own - own.mean(0))
    yield "far", 30 * own
    yield "one row", own[:1] + 0.1


def put(train: np.ndarray, labels: np.ndarray, person: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, last = np.searchsorted(labels, [person, person + 1])
    rows = np.concatenate([train[:first], own, train[last:]]).astype(np.float32)
    return rows, np.concatenate([labels[:first], np.full(len(own), person), labels[last:]])


@pytest.mark.parametrize("person", [0, 11])
def test_refits_are_the_exact_cold_fits_to_the_tolerance(
    person: int, rows: np.ndarray, train: np.ndarray, labels: np.ndarray, refits: Refits
) -> None:
    asked = rows[:, EACH:].reshape(-1, WIDTH)
    for name, own in disguises(train, person):
        changed, numbers = put(train, labels, person, own)
        found = refits.replaced(person, changed, numbers)
        assert off(found, changed, numbers) <= TOLERANCE, name
        _, weights, biases = exact(changed, numbers)
        scores, wanted = found.scores(asked), asked @ weights + biases
        np.testing.assert_allclose(
            scores - scores.mean(1, keepdims=True), wanted - wanted.mean(1, keepdims=True), atol=0.02, err_msg=name
        )
        assert scores.argmax(1).tolist() == wanted.argmax(1).tolist(), name


def test_the_clean_fit_is_exact_to_the_tolerance(train: np.ndarray, labels: np.ndarray, refits: Refits) -> None:
    assert off(refits.first(), train, labels) <= TOLERANCE
    problem, weights = fit_cold(train, labels, PEOPLE, tolerance=1e-6)
    assert off(problem.unstandardised(weights), train, labels) <= 2e-6


def test_a_start_from_clean_weights_leaks_if_it_stops_early_and_not_if_it_stops_by_the_bound(
    rows: np.ndarray, train: np.ndarray, labels: np.ndarray
) -> None:
    missed = dict.fromkeys(("exact", "early", "bound", "refit"), 0)
    refits = Refits(train, labels, PEOPLE)
    for person in range(0, PEOPLE, 3):
        # Photos like nobody's. Knowing them by one trait is enough to make the loss small, and then nothing but the L2
        # term takes from the weights how the person looks without it.
        changed, numbers = put(train, labels, person, dict(disguises(train, person))["spike"])
        problem = Objective(changed, numbers, PEOPLE, torch.float32, refits._objective.axes)
        problem.stiffness = refits._objective.stiffness
        start = refits._weights
        settled = settle(problem, start, TOLERANCE)
        assert settled is not None
        assert off(problem.unstandardised(settled), changed, numbers) <= TOLERANCE
        _, weights, biases = exact(changed, numbers)
        fits = {
            "exact": Weights(weights, biases),
            "early": problem.unstandardised(descend(problem, start, 0.1 * len(changed))[0]),
            "bound": problem.unstandardised(settled),
            "refit": refits.replaced(person, changed, numbers),
        }
        for name, fit in fits.items():
            missed[name] += int((fit.scores(rows[person, EACH:]).argmax(1) != person).sum())
    assert missed["early"] < 0.5 * missed["exact"]
    assert missed["exact"] == missed["bound"] == missed["refit"]


@pytest.mark.parametrize("size", [0, 0.03, 0.3])
def test_any_start_ends_at_the_same_weights(size: float, train: np.ndarray, labels: np.ndarray) -> None:
    problem, weights = fit_cold(train, labels, PEOPLE)
    start = weights
    if size:
        start = start + torch.from_numpy(np.random.default_rng(3).normal(0, size, weights.shape)).float()
    settled = settle(problem, start, TOLERANCE)
    assert settled is not None
    assert float((settled - weights)[:-1].norm()) <= 2 * TOLERANCE
    if not size:
        assert settled is weights


def test_two_people(train: np.ndarray, labels: np.ndarray) -> None:
    few, numbers = train[: 2 * EACH], labels[: 2 * EACH]
    changed, _ = put(few, numbers, 1, few[EACH:] + 0.05)
    found = Refits(few, numbers, 2).replaced(1, changed, numbers)
    mean, deviation = changed.mean(0, dtype=np.float64), changed.std(0, dtype=np.float64)
    # scikit-learn has one column for two people, the difference of ours: |w|^2 / 2 of it is |W|^2 of two opposite
    # halves, twice what ours pay.
    judge = LogisticRegression(C=2, tol=1e-8, solver="newton-cholesky").fit((changed - mean) / deviation, numbers)
    apart = (found.weights[:, 1] - found.weights[:, 0]) * deviation - judge.coef_[0]
    assert np.linalg.norm(apart) <= 2 * TOLERANCE


def test_a_refit_does_not_depend_on_refits_before_it_or_on_threads(train: np.ndarray, labels: np.ndarray) -> None:
    changed, numbers = put(train, labels, 4, train[:EACH] + 0.01)
    others, more = put(train, labels, 9, train[:EACH] - 0.02)
    used = Refits(train, labels, PEOPLE)
    used.replaced(9, others, more)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = used.replaced(4, changed, numbers)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    fresh = Refits(train, labels, PEOPLE).replaced(4, changed, numbers)
    np.testing.assert_array_equal(again.weights, fresh.weights)
    np.testing.assert_array_equal(again.biases, fresh.biases)


def test_where_newtons_method_fails_a_cold_fit_follows(
    train: np.ndarray, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    refits, real, asked = Refits(train, labels, PEOPLE), settle, []

    def once(*given: object) -> object:
        asked.append(given)
        return real(*given) if len(asked) > 1 else None  # type: ignore[arg-type]

    monkeypatch.setattr(logistic, "settle", once)
    changed, numbers = put(train, labels, 4, train[:EACH] + 0.01)
    found = refits.replaced(4, changed, numbers)
    assert len(asked) == 2
    assert off(found, changed, numbers) <= TOLERANCE


def test_a_fit_that_cannot_keep_to_the_bound_is_no_fit(train: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ToolError, match="could not be fitted"), one_thread():
        fit_cold(train, labels, PEOPLE, tolerance=1e-18)
