"""The protocol: splits, matching, protection counted one person at a time, verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from _toolio.errors import InputError
from facetools.evaluation.cloaks import match_cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.experiment import Evaluation, rank_of
from facetools.evaluation.gallery import Gallery
from facetools.evaluation.splits import split_photos
from facetools.evaluation.summary import summarise
from galleries import EACH, PEOPLE, WIDTH, gallery_of


@pytest.fixture
def moved(clean: Gallery, names: list[str]) -> Gallery:
    """Copies that lie somewhere else altogether."""
    rng = np.random.default_rng(1)
    return gallery_of(clean.embeddings + 40 * rng.normal(size=(1, WIDTH)), names, "cloaked")


def run(
    clean: Gallery, cloaked: Sequence[Gallery], people: Sequence[str], plan: ProtocolConfig, classifier: str = "nn"
) -> dict[str, Any]:
    cloaks = [match_cloaks(str(n), clean, each) for n, each in enumerate(cloaked)]
    evaluation = Evaluation([clean], [[each] for each in cloaked], cloaks, people, plan)
    return dict(evaluation.run(classifier, evaluation.protected))


@pytest.mark.parametrize("classifier", ["nn", "linear"])
def test_a_cloak_that_moves_everything_protects_and_one_that_moves_nothing_does_not(
    clean: Gallery, moved: Gallery, people: list[str], names: list[str], classifier: str
) -> None:
    for cloaked, wanted in ((moved, 1.0), (gallery_of(clean.embeddings, names, "cloaked"), 0.0)):
        done = run(clean, [cloaked], people, ProtocolConfig(), classifier)
        assert list(done) == [f"p{n}" for n in range(PEOPLE)]
        for fields in done.values():
            assert (fields["protection"], fields["floor"], fields["rank1"]) == (wanted, 0.0, 1 - wanted)
            assert (fields["train_photos"], fields["cloaked_photos"], fields["test_photos"]) == (7, 7, 3)
        assert np.mean([fields["others_accuracy"] for fields in done.values()]) > 0.97


@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_counts_are_those_of_a_recogniser_trained_anew(
    clean: Gallery, people: list[str], names: list[str], folds: int, fraction: float
) -> None:
    """Overlapping people and half-moved copies, so that some are named and some are not."""
    rng = np.random.default_rng(5)
    blurred = gallery_of(clean.embeddings * 0.25 + rng.normal(size=clean.embeddings.shape), names)
    cloaked = gallery_of(blurred.embeddings + 1.1 * rng.normal(size=blurred.embeddings.shape), names, "cloaked")
    plan = ProtocolConfig(folds=folds, fraction=fraction, seed=2)
    done = run(blurred, [cloaked], people, plan)
    labels = np.array(people)
    for person, fields in done.items():
        missed = asked_of = right = others = in_five = 0
        for asked in split_photos(people, plan):
            rows = np.flatnonzero(~asked)
            mine = [row for row in rows if people[row] == person]
            pool = {row: blurred.embeddings[row] for row in rows}
            if fraction == 1.0:
                pool |= {row: cloaked.embeddings[row] for row in mine}
            else:
                # Which ones were drawn only the evaluation knows: those of its cloaked rows that are near.
                drawn = _drawn(blurred, cloaked, people, plan, person, asked)
                pool |= {row: cloaked.embeddings[row] for row in drawn}
            known = np.stack([pool[row] for row in rows]).astype(np.float64)
            for test in np.flatnonzero(asked):
                apart = np.linalg.norm(known - blurred.embeddings[test], axis=1)
                ranking = list(dict.fromkeys(labels[rows[np.argsort(apart, kind="stable")]]))
                if people[test] == person:
                    asked_of += 1
                    missed += ranking[0] != person
                    in_five += person in ranking[:5]
                else:
                    others += 1
                    right += ranking[0] == people[test]
        assert fields["protection"] == pytest.approx(missed / asked_of)
        assert fields["rank5"] == pytest.approx(in_five / asked_of)
        assert fields["others_accuracy"] == pytest.approx(right / others)
        assert fields["cloaked_photos"] == pytest.approx(fraction * fields["train_photos"], abs=folds)
    protections = [fields["protection"] for fields in done.values()]
    assert 0.05 < np.mean(protections) < 0.95


def _drawn(
    clean: Gallery, cloaked: Gallery, people: list[str], plan: ProtocolConfig, person: str, asked: np.ndarray
) -> list[int]:
    """Ask the evaluation which rows it trains on, and find them among the copies."""
    cloaks = match_cloaks("0", clean, cloaked)
    evaluation = Evaluation([clean], [[cloaked]], [cloaks], people, plan)
    own = int(np.flatnonzero(evaluation.names == person)[0])
    training = evaluation._training(person, own, asked)
    found = [n for n in range(len(people)) if (cloaked.embeddings[n] == training.rows[0]).all(1).any()]
    assert len(found) == sum(training.each)
    return found


def test_photos_without_a_copy_fail_their_person_or_are_left_out(
    clean: Gallery, moved: Gallery, people: list[str], names: list[str]
) -> None:
    (asked,) = split_photos(people, ProtocolConfig())
    lost = int(np.flatnonzero(~asked)[0])
    kept = [n for n in range(len(names)) if n != lost]
    fewer = gallery_of(moved.embeddings[kept], [names[n] for n in kept], "cloaked")
    done = run(clean, [fewer], people, ProtocolConfig())
    assert isinstance(done["p0"], InputError)
    assert f"p0: 1 of 7 photos to train on have no cloaked copy (clean/{names[lost]} is one)" in done["p0"].message
    assert done["p1"]["protection"] == 1.0
    dropped = run(clean, [fewer], people, ProtocolConfig(drop_missing=True))
    assert (dropped["p0"]["train_photos"], dropped["p0"]["protection"]) == (6, 1.0)


def test_one_clean_photo_left_undoes_the_cloaks(clean: Gallery, moved: Gallery, people: list[str]) -> None:
    done = run(clean, [moved], people, ProtocolConfig(fraction=0.85))
    for fields in done.values():
        assert (fields["cloaked_photos"], fields["train_photos"], fields["protection"]) == (6, 7, 0.0)


def test_someone_who_changes_their_cloak_is_known_by_the_older_photos(
    clean: Gallery, moved: Gallery, people: list[str], names: list[str]
) -> None:
    weak = gallery_of(clean.embeddings + 0.01, names, "old")
    done = run(clean, [weak, moved], people, ProtocolConfig())
    for fields in done.values():
        assert (fields["cloaked_photos"], fields["protection"]) == (7, 0.0)
    # Of an older cloak that moves and a newer one that does not, the newer photos give them away.
    assert {fields["protection"] for fields in run(clean, [moved, weak], people, ProtocolConfig()).values()} == {0.0}


def test_someone_with_one_photo_is_nobody_to_ask(clean: Gallery, moved: Gallery, people: list[str]) -> None:
    alone = [*people[:-EACH], "solo", *people[-EACH + 1 :]]
    done = run(clean, [moved], alone, ProtocolConfig())
    assert isinstance(done["solo"], InputError)
    assert done["solo"].kind == "one-photo"


def test_ranks_and_ties() -> None:
    scores = np.array([[0.0, 1, 2], [1, 1, 0], [np.inf, 0, np.inf]])
    assert rank_of(scores, np.array([2, 1, 0])).tolist() == [2, 2, 3]
    assert rank_of(scores, np.array([0, 0, 1])).tolist() == [0, 1, 0]


def test_cloaks_that_move_are_not_accepted(clean: Gallery, moved: Gallery, people: list[str]) -> None:
    for fields in run(clean, [moved], people, ProtocolConfig(split=0.5)).values():
        assert fields["tar"] == {"0.001": 0.0, "0.0001": None}
        assert fields["tar_clean"]["0.001"] > 0.9


def test_the_summary_has_an_interval_over_people(clean: Gallery, people: list[str], names: list[str]) -> None:
    half = clean.embeddings.copy()
    half[: 4 * EACH] += 50
    done = run(clean, [gallery_of(half, names, "cloaked")], people, ProtocolConfig())
    summary = summarise(list(done.values()))
    assert (summary["protection"], summary["people"], summary["floor"]) == (0.5, PEOPLE, 0.0)
    low, high = summary["interval"]
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert (summary["train_photos"], summary["test_photos"]) == (7 * PEOPLE, 3 * PEOPLE)
