"""Thresholds at a false accept rate."""

from __future__ import annotations

import numpy as np
import pytest

from _toolio.errors import ToolError, UsageError
from embedding_files import brute, faces_of
from facetools.embeddings import matching
from facetools.embeddings.thresholds import (
    FALSE_ACCEPT_RATES,
    MEASURED,
    accept_limits,
    calibrated_threshold,
    measured_threshold,
)
from facetools.extractors.architectures.dlib_resnet import SHA256


def test_the_built_in_extractor_has_measured_thresholds() -> None:
    about = {"name": "dlib-resnet", "sha256": SHA256, "distance": "euclidean"}
    found = [measured_threshold(about, far) for far in FALSE_ACCEPT_RATES]
    assert [each.far for each in found] == [1e-3, 1e-4]
    assert 0.6 > found[0].distance > found[1].distance > 0.3
    assert all("LFW" in each.source for each in found)
    assert all(sorted(each.limits, reverse=True) == list(FALSE_ACCEPT_RATES) for each in MEASURED.values())


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="no threshold was measured for the extractor net; give threshold, or calib"):
        measured_threshold({"name": "net", "sha256": "d" * 64}, 1e-3)
    with pytest.raises(UsageError, match=r"far 0.01: was not measured for dlib-resnet, 0.001 and 0.0001 were"):
        measured_threshold({"name": "dlib-resnet", "sha256": SHA256}, 1e-2)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_threshold_accepts_its_share_of_pairs_of_different_people(
    distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "BLOCK", 32)
    faces = faces_of(np.random.default_rng(2).normal(size=(90, 6)), distance)
    people = [str(number // 3) for number in range(90)]
    differ = np.array(people)[:, None] != np.array(people)
    apart = brute(faces, faces)[np.triu(differ)]
    found = calibrated_threshold(faces, people, 0.01)
    # Just below the nearest pair that is not accepted; the two computations differ in the last bits.
    nearest = np.sort(apart)[int(0.01 * len(apart)) - 1 :]
    assert nearest[0] < found.distance == pytest.approx(nearest[1], abs=1e-12)
    assert found.source == f"in: 30 people, {len(apart):,} pairs"
    with pytest.raises(ToolError, match=r"in: 3,915 pairs .* too few for a false accept rate of 0.001, .* 10,000;"):
        calibrated_threshold(faces, people, 1e-3)


def test_limits_keep_the_nearest_only() -> None:
    parts = [np.array([5.0, 1.0]), np.array([3.0, 2.0, 4.0])]
    limits = accept_limits(parts, 5, (0.5, 0.1))
    assert 2.0 <= limits[0] < 3.0
    assert np.isnan(limits[1])
