"""Settings of extractors, through JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from facetools.extractors.settings import Settings

GOOD = Settings((112, 96), "arcface-112", "bgr", (1.0, 2.0, 3.0), (128.0, 128.0, 128.0), "none", "euclidean", True)


def test_settings_survive_json() -> None:
    assert Settings.read(json.loads(json.dumps(asdict(GOOD)))) == GOOD


@pytest.mark.parametrize("gone", ["input_size", "alignment", "mean", "std", "distance", "mirrored"])
def test_a_missing_field(gone: str) -> None:
    with pytest.raises(KeyError, match=gone):
        Settings.read({key: value for key, value in asdict(GOOD).items() if key != gone})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alignment": "sideways"}, "alignment 'sideways' is none of"),
        ({"channel_order": "rbg"}, "channel_order 'rbg' is none of rgb, bgr"),
        ({"normalisation": "l1"}, "normalisation 'l1' is none of l2, none"),
        ({"distance": "manhattan"}, "distance 'manhattan' is none of cosine, euclidean"),
        ({"input_size": (112, 8)}, r"input_size \(112, 8\) is not between 16 and 1024"),
        ({"std": (1.0, 0.0, 1.0)}, "mean and std are not three numbers each, std above 0"),
        ({"mean": (1.0, 2.0)}, "mean and std are not three numbers each"),
        ({"mean": (1.0, float("nan"), 2.0)}, "mean and std are not three numbers each"),
    ],
)
def test_settings_that_nothing_can_work_with(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes).check()


@pytest.mark.parametrize(("name", "odd"), [("input_size", [1e999, 32]), ("std", [10**400, 1, 1])])
def test_numbers_that_no_setting_has(name: str, odd: list[float]) -> None:
    with pytest.raises(ValueError, match="sizes, mean or std"):
        Settings.read({**asdict(GOOD), name: odd})
