"""Nearest pairs, against all distances at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.errors import ToolError
from embedding_files import brute, faces_of, write
from facetools.embeddings import matching
from facetools.embeddings.matching import Faces, nearest_pairs, read_embedded, together


@pytest.fixture(params=["cosine", "euclidean"])
def some(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Faces:
    monkeypatch.setattr(matching, "BLOCK", 16)
    values = np.random.default_rng(0).normal(size=(70, 5))
    values[7], values[60] = values[3], values[20]
    return faces_of(values, request.param)


def test_pairs_of_one_input_are_all_within_the_threshold_nearest_first(some: Faces) -> None:
    upper = np.triu_indices(len(some.faces), 1)
    every = brute(some, some)[upper]
    threshold = float(np.quantile(every, 0.1))
    pairs = nearest_pairs(some, None, threshold)
    found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    near = every <= threshold
    expected = set(zip(upper[0][near].tolist(), upper[1][near].tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected) == pairs.within
    assert np.allclose(pairs.distances, np.sort(every)[: len(found)], atol=1e-12)
    # Equal embeddings are at 0 exactly, which a difference of sums of squares would miss; ties are in order.
    assert found[:2] == [(3, 7), (20, 60)]
    assert pairs.distances[:2].tolist() == [0, 0]


def test_the_nearest_pairs_whatever_their_distance(some: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    every = np.sort(brute(some, some)[np.triu_indices(70, 1)])
    held = []
    whole = matching._nearest

    def counted(found: Any, limit: int) -> Any:
        held.append(sum(len(each[0]) for each in found))
        return whole(found, limit)

    monkeypatch.setattr(matching, "_nearest", counted)
    pairs = nearest_pairs(some, None, 0.0, most=30, beyond=True)
    assert np.allclose(pairs.distances, every[:30], atol=1e-12)
    assert pairs.within == 2
    assert max(held) <= 2 * 30 + 16 * 16, "more is held than what is kept, and a block"
    assert len(nearest_pairs(some, None, float(every[50]), most=30).distances) == 30
    assert nearest_pairs(some, None, float(every[50] + 1e-9), most=30).within == 51


def test_pairs_of_two_inputs_leave_out_a_face_with_itself(some: Faces) -> None:
    other = faces_of(some.values[10:30] + 0.1, some.distance, "other")
    pairs = nearest_pairs(some, other, 10.0)
    assert len(pairs.distances) == 70 * 20
    assert np.allclose(pairs.distances, np.sort(brute(some, other).ravel()), atol=1e-12)
    itself = nearest_pairs(some, some, 10.0)
    assert len(itself.distances) == 70 * 69
    assert not (itself.first == itself.second).any()
    assert len(together([some, some, other]).faces) == 90


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path, "one"), write(tmp_path, "other", sha256="e" * 64, top="in2")
    with pytest.raises(ToolError, match=r"one.jsonl and .*other.jsonl: embedded by net .*; match one extractor"):
        read_embedded([str(one), str(other)])
    broken = write(tmp_path, "broken", rows=np.full((4, 3), np.nan, np.float32))
    with pytest.raises(ToolError, match=r"the embedding of in/a/1.jpg is not finite"):
        read_embedded([str(broken)])
    zeros = np.ones((4, 3), np.float32)
    zeros[2] = 0
    with pytest.raises(ToolError, match=r"the embedding of in/b/1.jpg is all zeros, which has no cosine"):
        read_embedded([str(write(tmp_path, "zeros", rows=zeros))])
    assert len(read_embedded([str(write(tmp_path, "far", rows=zeros, distance="euclidean"))])[0].faces) == 4
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(ToolError, match="no face in it"):
        read_embedded([str(empty)])
