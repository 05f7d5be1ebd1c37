"""Records of pairs and of people, and what sums them up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.errors import UsageError
from embedding_files import write
from facetools.embeddings.match_records import MatchConfig, find_matches

ROWS = np.array([[0, 0, 0], [0, 0, 0.5], [1, 0, 0], [1, 0, 0.1]], np.float32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"far": 0.0}, "far 0: a false accept rate above 0, 0.5 at most"),
        ({"far": float("nan")}, "far nan: a false accept rate"),
        ({"threshold": -1.0}, "threshold -1: a distance of 0 or more"),
        ({"threshold": float("nan")}, "threshold nan: a distance"),
        ({"most": 0}, "most 0: 1 or more"),
        ({"threshold": 1.0, "calibrate": "people/"}, "threshold and calibrate: give one of them"),
        ({"cluster": True, "most": 3}, "cluster and most: give one of them; people are of all pairs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        find_matches(["nowhere.jsonl"], MatchConfig(**settings))


def test_a_sum_says_how_many_pairs_there_were(tmp_path: Path) -> None:
    records = str(write(tmp_path, rows=ROWS, distance="euclidean"))
    pairs = find_matches([records], MatchConfig(threshold=0.2))
    assert (pairs.summary, pairs.note) == ("4 faces, 6 pairs: 1 same, within 0.2", "")
    assert [(each["relative"], each["relative_b"], each["same"]) for each in pairs.records] == [
        ("b/1.jpg", "b/2.jpg", True)
    ]
    people = find_matches([records], MatchConfig(threshold=0.2, cluster=True))
    assert people.summary == "4 faces: 1 people with several, 2 with one"
    assert [each["person"] for each in people.records] == [0, 0, 1, 2]
