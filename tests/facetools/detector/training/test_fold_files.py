"""Names of the detectors that a training with folds keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import ToolError
from facetools.detector.training.fold_files import detector_without


def test_a_detector_says_what_it_has_not_seen(tmp_path: Path) -> None:
    out = tmp_path / "mine.v2.safetensors"
    assert detector_without(out, ("a", "b c")) == tmp_path / "mine.v2.without-a+b c.safetensors"
    assert detector_without(tmp_path / "mine", ("a",)) == tmp_path / "mine.without-a"


def test_a_name_too_long_for_a_file_is_refused_in_a_line(tmp_path: Path) -> None:
    many = [f"person {number:04}" for number in range(100)]
    with pytest.raises(ToolError, match=r"^keep_folds: .* without 100 sources, person 0000 and others, is too long"):
        detector_without(tmp_path / "mine.safetensors", many)
    # What is in bytes too long is refused too, and what is not can be written.
    with pytest.raises(ToolError, match="too long"):
        detector_without(tmp_path / "mine.safetensors", ["ü" * 90])
    detector_without(tmp_path / "mine.safetensors", ["ü" * 80]).touch()
