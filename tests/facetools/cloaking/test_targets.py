"""Target people of targeted attacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.tensors.writer import write_safetensors
from embedding_files import write
from facetools.cloaking.targets import FARTHEST, Targets

EXTRACTOR: Any = SimpleNamespace(name="x", sha256="abc")


def embedded(path: Path, people: int = 60, *, sha256: str = "abc", seed: int = 0) -> Path:
    """Two photos each of people on a line: the higher the number, the farther from 0."""
    names = [f"p{number:02}/{copy}.jpg" for number in range(people) for copy in (0, 1)]
    rows = [{"path": f"people/{name}", "relative": name, "face": 0} for name in names]
    extractor = {"name": "x", "sha256": sha256, "distance": "euclidean"}
    values = np.array([[number + copy * 0.5, 1.0] for number in range(people) for copy in (0, 1)], np.float32)
    write_safetensors(path, {"embeddings": values}, {
        "schema": "facetools.embed/1", "extractor": extractor, "rows": rows, "seed": seed,
    })  # fmt: skip
    return path


def test_targets_are_among_the_farthest_and_their_embeddings_means(tmp_path: Path) -> None:
    targets = Targets([embedded(tmp_path / "t.safetensors")], [EXTRACTOR])
    seen = set()
    for seed in range(200):
        (name,), (mean,) = targets.draw([np.zeros(2, np.float32)], "me", seed, 1)
        number = int(name[1:])
        assert number >= 60 - FARTHEST
        assert mean.tolist() == [[number + 0.25, 1.0]]
        seen.add(name)
    assert len(seen) > FARTHEST * 0.8


def test_photos_of_a_person_share_their_target(tmp_path: Path) -> None:
    targets = Targets([embedded(tmp_path / "t.safetensors")], [EXTRACTOR])
    drawn = [targets.draw([np.array([x, 0], np.float32)], "me", 7, 3)[0] for x in (0, 0.1, 0.2, 0.3)]
    assert all(each == drawn[0] for each in drawn)
    assert len(set(drawn[0])) == 3


def test_nobody_is_their_own_target(tmp_path: Path) -> None:
    targets = Targets([embedded(tmp_path / "t.safetensors", 3)], [EXTRACTOR])
    for seed in range(20):
        assert "p02" not in targets.draw([np.zeros(2, np.float32)], "p02", seed, 2)[0]
    targets.check("p02/1.jpg", "p02", 2)
    targets.check("x/1.jpg", "x", 3)
    with pytest.raises(InputError, match=r"p02/1\.jpg: targets has 2 people besides p02, 3 needed"):
        targets.check("p02/1.jpg", "p02", 3)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    other = embedded(tmp_path / "t.safetensors", sha256="other")
    with pytest.raises(UsageError, match="no file was embedded with x"):
        Targets([other], [EXTRACTOR])
    write_safetensors(tmp_path / "no.safetensors", {"a": np.zeros(2)}, {})
    with pytest.raises(ToolError, match="not a file of embeddings"):
        Targets([tmp_path / "no.safetensors"], [EXTRACTOR])
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = np.nan
    write(tmp_path, rows=rows, sha256="abc")
    with pytest.raises(ToolError, match=r"the embedding of in/b/1\.jpg is not finite"):
        Targets([tmp_path / "e.safetensors"], [EXTRACTOR])
    write_safetensors(tmp_path / "no.safetensors", {"embeddings": rows}, {"schema": "facetools.embed/1"})
    with pytest.raises(ToolError, match="its metadata does not name the extractor"):
        Targets([tmp_path / "no.safetensors"], [EXTRACTOR])
