"""The configuration of an evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from facetools.evaluation.config import EmbeddingConfig, EvaluationConfig, holds_photos
from facetools.faces.search import FaceSearch


def test_each_preprocessing_step_counts_once() -> None:
    assert [step.name for step in EmbeddingConfig(preprocess=["jpeg:75", "none", "jpeg:75.0"]).steps] == [
        "jpeg:75",
        "none",
    ]
    assert [step.name for step in EmbeddingConfig().steps] == ["none"]


def test_a_person_is_the_largest_face_unless_photos_are_crops() -> None:
    assert EmbeddingConfig().search == FaceSearch("largest")
    assert EmbeddingConfig(faces="central", min_face=30.0).search == FaceSearch("central", 30.0)
    searched = EmbeddingConfig(faces="central", crops=True, min_confidence=0.9, rotations=True).search
    assert searched == FaceSearch("crop", None, 0.9, rotations=True)


def test_defaults_protect_everybody_with_one_random_split() -> None:
    config = EvaluationConfig(gallery="a.jsonl", cloaked=["b.jsonl", "c.jsonl"])
    assert config.inputs == ("a.jsonl", "b.jsonl", "c.jsonl")
    assert config.protects_everybody
    assert not config.has_photos
    assert (config.protocol.split, config.protocol.folds, config.protocol.fraction) == (0.7, 1, 1.0)
    assert not EvaluationConfig(gallery="a", cloaked=["b"], protected=["ann"]).protects_everybody


def test_it_imports_neither_numpy_nor_torch() -> None:
    code = "import sys, facetools.evaluation.checks; print([m for m in ('numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_photos_are_told_from_embeddings(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    (tmp_path / "a.jsonl").touch()
    assert [holds_photos(str(tmp_path / name)) for name in ("", "a.tar", "a.jsonl")] == [True, True, False]
    assert not holds_photos("-")
