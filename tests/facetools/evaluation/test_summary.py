"""Means over people and their bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facetools.evaluation.summary import summarise


def person(protection: float, **more: Any) -> dict[str, Any]:
    fields = {"protection": protection, "floor": 0.0, "others_accuracy": 0.5, "rank1": 1 - protection, "rank5": None}
    return {**fields, "train_photos": 7, "cloaked_photos": 6, "test_photos": 3, **more}


def test_means_and_sums_are_over_people() -> None:
    summary = summarise([person(0.0), person(1.0, others_accuracy=None, rank5=1.0), person(0.5)])
    assert (summary["protection"], summary["floor"], summary["rank1"]) == (0.5, 0.0, 0.5)
    # What is not known of a person takes no part in its mean.
    assert (summary["others_accuracy"], summary["rank5"]) == (0.5, 1.0)
    assert [summary[key] for key in ("people", "train_photos", "cloaked_photos", "test_photos")] == [3, 21, 18, 9]
    assert "tar" not in summary
    assert "limit" not in summary


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = summarise([person(value) for value in rng.random(40)])["interval"]
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100


def test_one_person_has_no_interval() -> None:
    summary = summarise([person(0.25)])
    assert (summary["protection"], summary["interval"], summary["floor_interval"]) == (0.25, None, None)


@pytest.mark.parametrize(
    ("people", "tests", "caution"),
    [
        (3, 4, None),
        (2, 50, "too few for an interval: 2 of 3 people that it needs"),
        (3, 3, "too few for an interval: 9 of 10 test photos that it needs"),
        (1, 1, "too few for an interval: 1 of 3 people and 1 of 10 test photos that it needs"),
        (3, 0, None),  # records of other tools do not say
        (2, 0, "too few for an interval: 2 of 3 people that it needs"),
    ],
)
def test_few_have_no_interval_and_it_is_said(people: int, tests: int, caution: str | None) -> None:
    summary = summarise([person(0.25, test_photos=tests)] * people)
    assert summary.get("caution") == caution
    assert (summary["interval"] is None) == (summary["floor_interval"] is None) == (caution is not None)


def test_rates_and_cloaks_are_summarised_one_by_one() -> None:
    rates = [{"0.001": 0.5, "0.0001": None}, {"0.001": 1.0, "0.0001": None}]
    people = [person(0.0, tar=each, tar_clean=each, photos_of_cloaks=[2, 4], limit=0.25) for each in rates]
    summary = summarise(people)
    assert summary["tar"] == summary["tar_clean"] == {"0.001": 0.75, "0.0001": None}
    assert summary["photos_of_cloaks"] == [4, 8]
    assert summary["limit"] == pytest.approx(0.25)


def test_few_tests_in_one_split_are_told_that_folds_test_every_photo() -> None:
    hint = "with folds every photo is tested"
    assert summarise([person(1.0, test_photos=1)], folds=1)["caution"].endswith(hint)
    assert hint not in summarise([person(1.0, test_photos=4)], folds=4)["caution"]
    assert hint not in summarise([person(1.0, test_photos=50)], folds=1)["caution"]
