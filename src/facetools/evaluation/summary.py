"""Mean over protected people with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facetools.metrics import mean_interval

LEAST_PEOPLE, LEAST_TESTS = 3, 10
"""Fewer have no interval: a bootstrap over them would look narrower than what is known."""


def caution_of(people: int, tests: int, folds: int | None = None) -> str | None:
    """Return why a mean over people has no interval, None if it has one; 0 tests stand for a number not known.

    With few tests in one split, ``folds`` 1, it says what tests every photo.
    """
    if people >= LEAST_PEOPLE and (tests >= LEAST_TESTS or not tests):
        return None
    few = [f"{people} of {LEAST_PEOPLE} people"] if people < LEAST_PEOPLE else []
    few += [f"{tests} of {LEAST_TESTS} test photos"] if 0 < tests < LEAST_TESTS else []
    more = "; with folds every photo is tested" if folds == 1 and 0 < tests < LEAST_TESTS else ""
    return f"too few for an interval: {' and '.join(few)} that it needs{more}"


def summarise(records: Sequence[Mapping[str, Any]], *, folds: int | None = None) -> dict[str, Any]:
    """Return means over protected people, with 95% bootstrap intervals over them; or ``caution``, why they have none.

    Parameters
    ----------
    records
        The fields of each person from ``Evaluation.run``; one at least.
    folds
        Number of splits that they are of; None where it is not known.
    """
    fields: dict[str, Any] = {}
    caution = caution_of(len(records), sum(record["test_photos"] for record in records), folds)
    for key, name in (("protection", "interval"), ("floor", "floor_interval")):
        fields[key], *ends = mean_interval([record[key] for record in records])
        fields[name] = None if caution else ends
    for key in ("others_accuracy", "rank1", "rank5"):
        fields[key] = _mean([record[key] for record in records])
    fields |= {"caution": caution} if caution else {}
    fields["people"] = len(records)
    for key in ("train_photos", "cloaked_photos", "test_photos"):
        fields[key] = sum(record[key] for record in records)
    if all("photos_of_cloaks" in record for record in records):
        fields["photos_of_cloaks"] = np.sum([record["photos_of_cloaks"] for record in records], 0).tolist()
    if "limit" in records[0]:
        fields["limit"] = _mean([record["limit"] for record in records])
    for key in (key for key in ("tar", "tar_clean") if key in records[0]):
        fields[key] = {rate: _mean([record[key][rate] for record in records]) for rate in records[0][key]}
    return fields


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
