"""Landmark templates of alignments."""

from __future__ import annotations

import subprocess
import sys

import pytest

from facetools.faces.templates import ALIGNMENTS, TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_landmarks_are_in_their_order_and_in_the_chip(name: str) -> None:
    side, points = TEMPLATES[name]
    assert name.endswith(f"-{side}")
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), (mouth_left, low), (mouth_right, lower) = points
    assert 0 < left_x < nose_x < right_x < side
    assert 0 < mouth_left < nose_x < mouth_right < side
    assert 0 < max(left_y, right_y) < nose_y < min(low, lower) < side
    # Faces look straight ahead: the eyes are level within a pixel.
    assert abs(left_y - right_y) < 1


def test_names_are_there_before_anything_is_imported() -> None:
    assert set(TEMPLATES) < set(ALIGNMENTS)
    code = "import sys, facetools.faces.templates; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
